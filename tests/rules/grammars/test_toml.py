"""Tests of `portfwd.rules.grammars.toml` and `portfwd.rules.grammars.toml_positions`: oxidinetd's TOML."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import parse_toml
from portfwd.rules.grammars.toml_positions import TomlPositions
from portfwd.rules.model import (
    AccessLogFormat,
    CheckSpec,
    Framing,
    Kind,
    ListenOptions,
    LogSpec,
    Options,
    PortRange,
    Rule,
)
from portfwd.rules.queries.render import render
from tests.rules.golden import FIXTURES, GoldenFiles

RULE = """[[forwarding_rules]]
bind_address = "0.0.0.0"
bind_port = 8080
connect_address = "10.0.0.5"
connect_port = 80
"""


def rule(more: str = "", text: str = RULE) -> Rule:
    """The one rule of a file, with more keys."""
    (found,) = parse_toml(text + more, "f.toml").rules
    return found


def problems(more: str, text: str = RULE) -> list[str]:
    """What is wrong, with the key."""
    try:
        found = parse_toml(text + more, "f.toml").warnings
    except RulesError as error:
        found = error.problems
    return [f"{problem.location.key} {problem.code}" for problem in found]


class CheckTests(SynchronousTestCase):
    """The key ``check``, which has what a native ``check`` line has."""

    def test_one(self) -> None:
        """One text is one check, with its words and options."""
        (found,) = rule('check = "http path=/health inter=5s"\n').checks
        self.assertEqual(found, CheckSpec("http", (), (("path", "/health"), ("inter", "5s"))))

    def test_several(self) -> None:
        """A list has several; quotes are those of the native grammar."""
        found = rule("check = ['send \"PING x\" expect PONG', 'tcp']\n").checks
        self.assertEqual(found, (CheckSpec("send", ("PING x", "expect", "PONG")), CheckSpec("tcp")))
        self.assertEqual(found[1].where.key, "forwarding_rules[0].check[1]")
        self.assertEqual(rule("check = []\n").checks, ())

    def test_converted(self) -> None:
        """It becomes native lines."""
        text = render(parse_toml(RULE + 'check = "tcp inter=1s"\n', "f.toml"))
        self.assertIn("\n    check tcp inter=1s\n", text)

    def test_wrong(self) -> None:
        """What is no check has an error at its place; whether there is such a check is not judged here."""
        where = "forwarding_rules[0].check"
        for value, code in (
            ("5", f"{where} toml-type"),
            ("['tcp', 5]", f"{where}[1] toml-type"),
            ("''", f"{where} bad-value"),
            ("' '", f"{where} missing-argument"),
            ("'inter=5s'", f"{where} missing-argument"),
            ("'send \"a'", f"{where} unclosed-quote"),
        ):
            self.assertEqual(problems(f"check = {value}\n"), [code], value)


class OxidinetdTests(SynchronousTestCase):
    """oxidinetd's own keys."""

    def test_fixture(self) -> None:
        """A file with every key: log, pid file, lists, the four protocols."""
        ruleset = parse_toml((FIXTURES / "oxidinetd.toml").read_text("utf-8"), "f.toml", GoldenFiles())
        self.assertEqual(ruleset.log, LogSpec(AccessLogFormat.COMMON, "/var/log/oxidinetd.log"))
        self.assertEqual(ruleset.pid_file, "/run/oxidinetd.pid")
        self.assertEqual(
            [(e.allow, e.pattern) for e in ruleset.access], [(True, "192.168.1.*"), (False, "192.168.1.66")]
        )
        kinds = [(r.listen.kind, r.targets[0].kind) for r in ruleset.rules]
        tcp, udp, unix = Kind.TCP, Kind.UDP, Kind.UNIX
        self.assertEqual(kinds, [(tcp, tcp), (udp, udp), (udp, tcp), (tcp, udp), (unix, unix)])
        self.assertEqual([r.options.idle for r in ruleset.rules], [None, 30.0, 72.0, 72.0, 300.0])
        self.assertEqual(ruleset.rules[0].options.src, "10.0.0.1")
        self.assertEqual([e.pattern for e in ruleset.rules[0].access], ["10.*"])
        self.assertEqual(ruleset.rules[1].listen.host, "::")
        self.assertEqual(ruleset.rules[2].options.framing, Framing.LENGTH16)
        self.assertEqual(ruleset.rules[3].listen.ports, PortRange(8000, 8010))

    def test_log(self) -> None:
        """A log file alone means rinetd's form."""
        self.assertEqual(parse_toml('log_file = "x"\n' + RULE, "f").log, LogSpec(AccessLogFormat.RINETD, "x"))
        self.assertEqual(parse_toml(RULE, "f").log, LogSpec())
        self.assertEqual(problems("", 'log_format = "json"\n' + RULE), ["log_format bad-value"])

    def test_written(self) -> None:
        """For rinetd's logs: address and port as in the file."""
        self.assertEqual(rule().written, ("0.0.0.0", "8080", "10.0.0.5", "80"))

    def test_timeout(self) -> None:
        """Its timeout is UDP's; elsewhere it means nothing and says so."""
        self.assertEqual(problems("timeout = 5"), ["forwarding_rules[0].timeout option-without-meaning"])
        self.assertEqual(rule('protocol = "udp"\ntimeout = "90"').options.idle, 90.0)
        self.assertEqual(
            problems('protocol = "udp"\ntimeout = 5\nidle = 6'),
            ["forwarding_rules[0].timeout duplicate-option"],
        )


class NativeKeysTests(SynchronousTestCase):
    """Native options as extra keys."""

    def test_types(self) -> None:
        """Text, numbers, booleans and lists, as TOML would have them; ``-`` or ``_`` in the key."""
        found = rule(
            'idle = 90\nlinger = 2.5\nnodelay = false\nconnect_timeout = "3s"\n'
            'half-close = "1m"\nbuffer = "1MiB"\nbacklog = 5'
        )
        self.assertEqual(
            found.options,
            Options(
                idle=90.0, linger=2.5, nodelay=False, connect_timeout=3.0, half_close=60.0, buffer=1048576
            ),
        )
        self.assertEqual(found.listen.options, ListenOptions(backlog=5))

    def test_mode(self) -> None:
        """Permission bits as an octal number or as text."""
        text = '[[forwarding_rules]]\nbind_address = "unix:/a"\nconnect_address = "unix:@b"\n'
        for value in ("0o660", '"0660"'):
            self.assertEqual(rule(f"mode = {value}", text).listen.options.mode, 0o660)

    def test_name(self) -> None:
        """A rule may have a name."""
        self.assertEqual(rule('name = "web"').name, "web")
        self.assertEqual(rule().name, "0.0.0.0:8080")
        self.assertEqual(problems('name = "a b"'), ["forwarding_rules[0].name bad-name"])


class WrongTests(SynchronousTestCase):
    """What is refused, with the path of its key."""

    def test_rule(self) -> None:
        """Each wrong key is told, all of them at once."""
        for more, wrong in (
            ("ilde = 5", ["ilde unknown-key"]),
            ("protocol = 'sctp'", ["protocol bad-value"]),
            ("protocol = 5", ["protocol toml-type"]),
            ("idle = '5x'\nlinger = -1", ["idle bad-value", "linger bad-value"]),
            ("idle = 1979-05-27", ["idle toml-type"]),
            ("idle = [1]", ["idle toml-type"]),
            ("buffer = 99999999999999999999", ["buffer out-of-bounds"]),
            ("linger = 1e999", ["linger bad-value"]),
            ("ca = 'x'", ["ca option-does-not-fit"]),
            ('alpn = ["\\u0000"]', ["alpn bad-character"]),
            ('source_address = "a\\tb"', ["source_address bad-character"]),
            ('source_address = ""', ["source_address bad-value"]),
            ("source_address = 'x'\nsrc = '10.0.0.1'", ["source_address duplicate-option"]),
            ("connect_timeout = 1\nconnect-timeout = 1", ["connect-timeout duplicate-option"]),
            ("rules = 5", ["rules toml-type"]),
            ("rules = [5]", ["rules toml-type"]),
            ("rules = [{type = 'allow'}]", ["rules[0] missing-key"]),
            ("rules = [{type = 'permit', pattern = 'x'}]", [
                "rules[0].type bad-value", "rules[0].pattern bad-pattern",
            ]),
            ("rules = [{type = 5, pattern = 5, x = 5}]", [
                "rules[0].x unknown-key", "rules[0].type toml-type", "rules[0].pattern toml-type",
            ]),
        ):  # fmt: skip
            self.assertEqual(problems(more), ["forwarding_rules[0]." + each for each in wrong], more)

    def test_places(self) -> None:
        """Addresses and ports are checked like those of any other grammar."""
        for old, new, wrong in (
            ("8080", "0", []),
            ("= 80\n", "= 0\n", ["connect_port port-zero"]),
            ("8080", "99999", ["bind_port bad-port"]),
            ("8080", "true", ["bind_port toml-type"]),
            ("8080", "9" * 30, ["bind_port bad-port"]),
            ("8080", '"http"', ["bind_port unknown-service"]),
            ("bind_port = 8080\n", "", [" missing-key"]),
            ('bind_address = "0.0.0.0"\n', "", [" missing-key"]),
            ('"10.0.0.5"', '"10.0.0.500"', ["connect_address bad-host"]),
            ('"10.0.0.5"', '"unix:/a"', ["connect_address bad-value"]),
            ('"10.0.0.5"', '"unix:"', ["connect_address bad-value", "connect_address bad-path"]),
        ):
            text = RULE.replace(old, new, 1)
            expected = [("forwarding_rules[0]." + each).replace(". ", " ") for each in wrong]
            self.assertEqual(problems("", text), expected, new)

    def test_whole(self) -> None:
        """Keys of the file itself."""
        self.assertEqual(problems("", "logfile = 'x'\n" + RULE), ["logfile unknown-key"])
        self.assertEqual(problems("", "forwarding_rules = 5"), ["forwarding_rules toml-type"])
        self.assertEqual(problems("", "pid_file = 5\n" + RULE), ["pid_file toml-type"])

    def test_syntax(self) -> None:
        """tomllib's refusals have line and column; its own limits are refusals too."""
        for text, place in (
            ("a = \n", "f:1:5"),
            ("x = 1\r\na = 0.0.0.0\r\n", "f:2:8"),
            ("a = [", "f:1:6"),
            ("a = " + "[" * 5000, "f"),
            ("a = " + "9" * 5000, "f:1"),
        ):
            error = self.assertRaises(RulesError, parse_toml, text, "f")
            self.assertEqual(
                [(str(p.location), p.code) for p in error.problems], [(place, "toml-syntax")], text[:20]
            )

    def test_long_number(self) -> None:
        """A number with more digits than Python reads has a message of ours, and its line."""
        for number in ("1" * 5000, "1_" * 4999 + "1"):
            with self.assertRaises(RulesError) as refused:
                parse_toml(f"# a comment\nforwarding_rules = {number}\n", "f.toml")
            (problem,) = refused.exception.problems
            self.assertEqual((problem.code, problem.location.line), ("toml-syntax", 2))
            self.assertEqual(problem.message, "a number has at most 4300 digits")
            self.assertIn("correct it", problem.hint)


class LongKeyTests(SynchronousTestCase):
    """Dotted keys, whose reading costs the square of their parts."""

    def test_bounded(self) -> None:
        """A key of very many parts is refused; the longest names in use, as values, are not."""
        for key in ("a." * 70 + "b", '"a" . ' * 70 + "b", "[" + "9." * 70):
            self.assertEqual(problems(f"\n{key} = 1", ""), [" toml-syntax"])
        self.assertEqual(problems('name = "' + "a." * 30 + 'b"'), [])


class SlotsTests(SynchronousTestCase):
    """Lines for key paths."""

    def test_scan(self) -> None:
        """Tables, arrays of tables, tables beneath their last element, keys."""
        text = "a = 1\n[[r]]\nx = 1\n[[r]]\n  y = 2\r\n  [[ r.s ]]\n  z = 3\n[t]\nu = 4\n"
        positions = TomlPositions("f", text)
        for path, place in (
            (("a",), "f:1:1: a"),
            (("r", 0), "f:2:3: r[0]"),
            (("r", 0, "x"), "f:3:1: r[0].x"),
            (("r", 1, "y"), "f:5:3: r[1].y"),
            (("r", 1, "s", 0, "z"), "f:7:3: r[1].s[0].z"),
            (("t", "u"), "f:9:1: t.u"),
            (("r", 1, "none"), "f:4:3: r[1].none"),
            (("none",), "f: none"),
        ):
            self.assertEqual(str(positions.at(path)), place)
        self.assertEqual(repr(positions), "<TomlPositions f 9 keys>")

    def test_no_guess(self) -> None:
        """With multi-line strings about, only the key is told."""
        self.assertEqual(str(TomlPositions("f", 'a = """\nb = 1\n"""\nb = 2\n').at(("b",))), "f: b")
