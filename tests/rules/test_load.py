"""Tests of `portfwd.rules.load` and `portfwd.rules.reading`: whole files, and what comes of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import combine, load, parse, parse_rule, parse_toml, render
from portfwd.rules.codes import CODES
from portfwd.rules.model import AccessLogFormat, LogSpec, Ruleset
from tests.rules.golden import FIXTURES, GoldenFiles, inside
from tests.rules.strategies import damaged
from tests.rules.test_include import MemoryFiles


class FixtureTests(SynchronousTestCase):
    """The files that use everything of each grammar."""

    def load(self, name: str) -> Ruleset:
        """Load one."""
        with inside(FIXTURES):
            return load(name, GoldenFiles(), allow_empty=name == "stock.conf")

    def test_all_load(self) -> None:
        """Every fixture loads, and what is rendered of it reads back the same."""
        for path in sorted(FIXTURES.iterdir()):
            if path.is_file():
                ruleset = self.load(path.name)
                self.assertEqual(parse(render(ruleset), "rendered"), ruleset, path.name)

    def test_stock(self) -> None:
        """The file that distributions install has a log and no rule: a warning where that is allowed."""
        ruleset = self.load("stock.conf")
        self.assertEqual(
            (ruleset.rules, ruleset.log), ((), LogSpec(AccessLogFormat.RINETD, "/var/log/rinetd.log"))
        )
        self.assertEqual([warning.code for warning in ruleset.warnings], ["no-rules"])

    def test_rinetd(self) -> None:
        """rinetd's rules, their lists and the log."""
        ruleset = self.load("rinetd.conf")
        self.assertEqual(len(ruleset.rules), 10)
        self.assertEqual(
            (ruleset.log.access, ruleset.log.file), (AccessLogFormat.COMMON, "/var/log/my rinetd.log")
        )
        self.assertEqual(ruleset.pid_file, "/var/run/rinetd.pid")
        self.assertEqual(len(ruleset.access), 5)
        self.assertEqual([len(rule.access) for rule in ruleset.rules][-2:], [2, 1])

    def test_every_option(self) -> None:
        """The native fixture uses every option of the table, and every kind of line."""
        text = (FIXTURES / "native.conf").read_text("utf-8")
        from portfwd.rules.clauses import CLAUSES
        from portfwd.rules.directives import NATIVE
        from portfwd.rules.options import OPTIONS

        for option in OPTIONS:
            self.assertIn(f" {option.key}=", text, option.name)
        for word in (*NATIVE, *CLAUSES, "include"):
            self.assertRegex(text, rf"(?m)^[ \t]*{word} ")

    def test_every_uv_directive(self) -> None:
        """The fixtures use every directive of rinetd and rinetd-uv."""
        from portfwd.rules.grammars.rinetd_directives import RINETD

        text = "".join((FIXTURES / name).read_text("utf-8") for name in ("rinetd.conf", "rinetd-uv.conf"))
        for word in RINETD:
            self.assertRegex(text, rf"(?m)^{word}\b")


class ChoiceTests(SynchronousTestCase):
    """Which grammar a name means."""

    def test_toml(self) -> None:
        """``*.toml`` is TOML, in any case of letters; anything else is native."""
        text = "[[forwarding_rules]]\nbind_address='0'\nbind_port=80\nconnect_address='a'\nconnect_port=80\n"
        for name in ("x.toml", "X.TOML"):
            self.assertEqual(len(load(name, MemoryFiles({name: text})).rules), 1)
        self.assertRaises(RulesError, load, "x.tom", MemoryFiles({"x.tom": text}))

    def test_yaml(self) -> None:
        """``*.yaml`` and ``*.yml`` are rinetd-uv's YAML, in any case of letters."""
        text = "rules: [{bind: '0.0.0.0:80', connect: 'a:80'}]\n"
        for name in ("x.yaml", "x.yml", "X.YAML"):
            self.assertEqual(len(load(name, MemoryFiles({name: text})).rules), 1)

    def test_missing(self) -> None:
        """A file that is not there is a problem of its own name."""
        files = MemoryFiles({"x": FileNotFoundError(2, "No such file or directory")})
        error = self.assertRaises(RulesError, load, "x", files)
        self.assertEqual(str(error), "x: error: 'x' cannot be read: No such file or directory")

    def test_services(self) -> None:
        """Services are asked of the files; without files a number must be written."""
        self.assertEqual(len(load("x", MemoryFiles({"x": ":http -> a:http"})).rules), 1)
        self.assertEqual(len(parse(":http -> a:80", "x", MemoryFiles({})).rules), 1)
        self.assertRaises(RulesError, parse, ":http -> a:80", "x")


class RuleOfCommandLineTests(SynchronousTestCase):
    """``--rule``."""

    def test_lines(self) -> None:
        """It may have what is beneath a rule, and services where files are given."""
        (rule,) = parse_rule(":80 -> a:80\n  allow 10.*").rules
        self.assertEqual((rule.where.file, len(rule.access)), ("<rule>", 1))
        self.assertEqual(len(parse_rule(":http -> a:80", files=MemoryFiles({})).rules), 1)
        self.assertEqual(len(parse_rule("0 80 a 80", "name").rules), 1)

    def test_refused(self) -> None:
        """It must have a rule, and cannot include; one problem is told once."""
        for text, code in (
            ("", "no-rules"),
            ("# x", "no-rules"),
            ("include x", "include-without-files"),
            (":80 ->", "missing-target"),
        ):
            error = self.assertRaises(RulesError, parse_rule, text, files=MemoryFiles({}))
            self.assertEqual([problem.code for problem in error.problems], [code])


class CombineTests(SynchronousTestCase):
    """Several rulesets as one."""

    def test_parts(self) -> None:
        """Rules, lists, directives, files and warnings are joined; the last log and pid file count."""
        one = parse("logfile a\npidfile p\nallow 1.*\nmetrics 127.0.0.1:9\npool-min-free 1\n:1 -> a:1", "one")
        two = parse("log access=json\nallow 2.*\n:2 -> a:1", "two")
        three = parse(":3 -> a:1", "three")
        found = combine(one, two, three)
        self.assertEqual([rule.name for rule in found.rules], [":1", ":2", ":3"])
        self.assertEqual([entry.pattern for entry in found.access], ["1.*", "2.*"])
        self.assertEqual(
            (found.log.access, found.log.file, found.pid_file), (AccessLogFormat.JSON, None, "p")
        )
        self.assertEqual(found.files, ("one", "two", "three"))
        self.assertEqual([warning.code for warning in found.warnings], ["directive-without-meaning"])
        self.assertEqual([directive.name for directive in found.directives], ["metrics"])

    def test_clash(self) -> None:
        """What is wrong only together is told; a warning of one part is not told twice."""
        one, two = parse(":1 -> a:1", "one"), parse(":1 -> a:2", "two")
        error = self.assertRaises(RulesError, combine, one, two)
        self.assertEqual([problem.code for problem in error.problems], ["listen-clash"])
        idle = parse(":1 -> a:1\n  target x=b:1", "idle")
        self.assertEqual([w.code for w in combine(idle).warnings], ["unused-target"])


class WholeTests(SynchronousTestCase):
    """Everything at once."""

    def test_every_problem(self) -> None:
        """Errors and warnings of all lines and files come in one exception, in the order of the files."""
        files = MemoryFiles(
            {"m": "include a\nfrob\npool-min-free 1\n:1 -> x", "a": ":2 -> y:1 z=1\n:2 -> y:1\nfrob"}
        )
        error = self.assertRaises(RulesError, load, "m", files)
        self.assertEqual(
            [f"{p.location} {p.code}" for p in error.problems],
            [
                "m:2:1 unknown-directive", "m:3:1 directive-without-meaning", "m:4:7 missing-port",
                "a:1:11 unknown-option", "a:3:1 unknown-directive",
            ],
        )  # fmt: skip

    def test_unknown_directives(self) -> None:
        """A misspelt directive is told from a wrong rule."""
        for text, code in (
            ("logfiel x", "unknown-directive"),
            ("frob a b", "unknown-directive"),
            ("defualt idle=1 linger=2 buffer=3", "unknown-directive"),
            ("localhost 80 remote", "unknown-directive"),
            ("localhost x/y a b", "bad-protocol"),
            ("host.example 80 remote", "bad-rule"),
        ):
            error = self.assertRaises(RulesError, parse, text, "f")
            self.assertEqual(error.problems[0].code, code, text)

    def test_cascade(self) -> None:
        """A line that cannot even be cut into words takes what is beneath it along, and nothing else."""
        text = ':1 -> a:1\n:2 -> endpoint:"x\n  allow 10.*\n  filter x\n'
        error = self.assertRaises(RulesError, parse, text, "f")
        self.assertEqual([problem.code for problem in error.problems], ["unclosed-quote"])
        error = self.assertRaises(RulesError, parse, ':1 -> a:1\n  filter "x\n  filter y', "f")
        self.assertEqual([problem.code for problem in error.problems], ["unclosed-quote"])


class FuzzTests(SynchronousTestCase):
    """Nothing but the rules error ever comes out."""

    def check(self, text: str, toml: bool = False) -> None:
        """Parse; what is refused has known codes, what is accepted renders."""
        try:
            ruleset = (parse_toml if toml else parse)(text, "f", GoldenFiles())
        except RulesError as error:
            self.assertLessEqual({problem.code for problem in error.problems}, set(CODES))
            return
        self.assertEqual(parse(render(ruleset), "g"), ruleset)

    @given(st.text())
    @settings(max_examples=100, deadline=None)
    def test_text(self, text: str) -> None:
        """Any text."""
        self.check(text)

    @given(st.text(alphabet='ab1.:*[]/-> ,="\\#\n\tudptcls@', max_size=60))
    @settings(max_examples=200, deadline=None)
    def test_likely_text(self, text: str) -> None:
        """Text of the characters that mean something."""
        self.check(text)

    @given(damaged(".conf"))
    @settings(max_examples=80, deadline=None)
    def test_damaged(self, text: str) -> None:
        """Good files with pieces cut, doubled or replaced."""
        self.check(text)

    @given(st.text())
    @settings(max_examples=100, deadline=None)
    def test_toml_text(self, text: str) -> None:
        """Any text as TOML."""
        self.check(text, toml=True)

    @given(damaged(".toml"))
    @settings(max_examples=80, deadline=None)
    def test_toml_damaged(self, text: str) -> None:
        """A good TOML file with pieces cut, doubled or replaced."""
        self.check(text, toml=True)

    @given(
        st.dictionaries(
            st.sampled_from(
                [
                    "bind_address",
                    "bind_port",
                    "connect_address",
                    "connect_port",
                    "protocol",
                    "timeout",
                    "idle",
                    "mode",
                    "alpn",
                    "name",
                    "rules",
                    "source_address",
                ]
            ),
            st.sampled_from(
                [
                    '"a"',
                    '"10.0.0.5"',
                    "80",
                    "-1",
                    "0x50",
                    "1e999",
                    "nan",
                    "true",
                    "[]",
                    '["h2"]',
                    "[1]",
                    "{}",
                    '""',
                    '"\\u0000"',
                    '"\\n"',
                    "1979-05-27",
                    "9" * 4301,
                    "[{}]",
                    '"tcp"',
                    '"unix:/a"',
                    '"off"',
                ]
            ),
        )
    )
    @settings(max_examples=100, deadline=None)
    def test_toml_types(self, rule: dict[str, str]) -> None:
        """Every key with a value of any type."""
        text = "[[forwarding_rules]]\n" + "".join(f"{key} = {value}\n" for key, value in rule.items())
        self.check(text, toml=True)
