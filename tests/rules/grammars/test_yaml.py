"""Tests of `portfwd.rules.grammars.yaml` and `portfwd.rules.grammars.yaml_nodes`: rinetd-uv's YAML form."""

from __future__ import annotations

from importlib.util import find_spec

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import parse_yaml
from portfwd.rules.grammars.yaml_nodes import MAX_DEPTH
from portfwd.rules.model import AccessLogFormat, Balance, Keepalive, Kind, LogSpec, Rule
from tests.rules.golden import FIXTURES, GoldenFiles

RULE = "rules:\n- bind: 0.0.0.0:80\n  connect: 10.0.0.5:80\n"
TWO = "rules:\n- bind: 0.0.0.0:80\n  connect: [10.0.0.5:80, 10.0.0.6:80]\n"


def rule(text: str) -> Rule:
    """The one rule of a file."""
    (found,) = parse_yaml(text, "f.yaml").rules
    return found


def problems(text: str) -> list[str]:
    """What is wrong, with line and column."""
    try:
        found = parse_yaml(text, "f.yaml").warnings
    except RulesError as error:
        found = error.problems
    return [f"{problem.location.line}:{problem.location.column} {problem.code}" for problem in found]


class YamlTestCase(SynchronousTestCase):
    """Tests that need PyYAML."""

    if find_spec("yaml") is None:
        skip = "needs pyyaml, of the extra 'yaml'"


class RinetdUvTests(YamlTestCase):
    """rinetd-uv's own keys."""

    def test_fixture(self) -> None:
        """A file with every key means what its conf form would mean."""
        ruleset = parse_yaml((FIXTURES / "rinetd-uv.yaml").read_text("utf-8"), "f.yaml", GoldenFiles())
        self.assertEqual(ruleset.log, LogSpec(AccessLogFormat.COMMON, "/var/log/rinetd-uv.log"))
        self.assertEqual(ruleset.pid_file, "/run/rinetd-uv.pid")
        self.assertEqual(
            [(entry.allow, entry.pattern) for entry in ruleset.access],
            [(True, "10.*"), (True, "192.168.*"), (False, "192.168.1.66")],
        )
        front, web, six, unix, dns, docker = ruleset.rules
        self.assertEqual(
            [one.name for one in ruleset.rules],
            ["front", "web-cluster", "web-cluster-2", "web-cluster-3", "dns", "127.0.0.1:2375"],
        )
        self.assertEqual((front.listen.options.backlog, front.options.buffer), (256, 8192))
        self.assertEqual(
            (front.options.balance, front.written[2:]), (Balance.FIRST, ("192.168.1.10", "8080"))
        )
        self.assertEqual([one.listen.kind for one in (web, six, unix)], [Kind.TCP, Kind.TCP, Kind.UNIX])
        self.assertEqual([one.listen.options.mode for one in (web, unix)], [None, 0o660])
        self.assertEqual(six.listen.host, "::")
        for one in (web, six, unix):
            options = one.options
            self.assertEqual((options.balance, options.stick), (Balance.LEASTCONN, 3600))
            self.assertEqual((options.max_fails, options.fail_timeout), (5, 30))
            self.assertEqual(options.keepalive, Keepalive(enabled=False))
            self.assertEqual((options.connect_timeout, options.idle), (4, None))
            self.assertEqual([entry.pattern for entry in one.access], ["10.0.0.*"])
            first, second, third = one.targets
            self.assertEqual((first.options.weight, first.options.src), (3, "10.0.0.1"))
            self.assertEqual((second.options.weight, second.options.src), (1, None))
            self.assertEqual((second.options.dns_refresh, third.options.dns_refresh), (60, 300))
            self.assertEqual((third.kind, third.path), (Kind.UNIX, "/run/web-fallback.sock"))
        self.assertEqual([target.kind for target in dns.targets], [Kind.UDP, Kind.UDP])
        self.assertEqual((dns.options.balance, dns.options.stick), (Balance.SOURCE, None))
        self.assertEqual((dns.options.idle, dns.options.max_assocs), (10, 5000))
        self.assertEqual((docker.options.balance, docker.targets[0].kind), (Balance.FIRST, Kind.UNIX))

    def test_warnings(self) -> None:
        """What has no meaning here is told, each with its line and column."""
        text = (FIXTURES / "rinetd-uv.yaml").read_text("utf-8")
        told = {
            text.split("\n")[int(place.split(":")[0]) - 1].split(":")[0].strip(): place.split()[1]
            for place in problems(text)
        }
        option, directive = "option-without-meaning", "directive-without-meaning"
        self.assertEqual(
            told,
            {
                **dict.fromkeys(
                    ("dns_multi_ip_expand", "dns_multi_ip_proto", "pool_min_free", "pool_max_free",
                     "pool_trim_delay"),
                    directive,
                ),
                "- name": "bad-name", "name": option, "affinity_max_entries": option, "timeout": option,
            },
        )  # fmt: skip

    def test_balance(self) -> None:
        """Several targets are balanced in turn unless an algorithm is named; one is not balanced."""
        self.assertEqual(rule(TWO).options.balance, Balance.ROUNDROBIN)
        self.assertEqual(rule(RULE).options.balance, Balance.FIRST)
        for word, balance in (
            ("roundrobin", Balance.ROUNDROBIN), ("Round-Robin", Balance.ROUNDROBIN),
            ("leastconn", Balance.LEASTCONN), ("random", Balance.RANDOM), ("ip-hash", Balance.SOURCE),
        ):  # fmt: skip
            text = f"{TWO}  load_balancing: {{algorithm: {word}}}\n"
            self.assertEqual(rule(text).options.balance, balance)

    def test_status_off(self) -> None:
        """``enabled: false`` means that there is none."""
        text = RULE + "global: {status: {enabled: false, file: /run/x}}\n"
        self.assertEqual((problems(text), parse_yaml(text, "f").directives), ([], ()))

    def test_status(self) -> None:
        """The status file and the statistics become native lines, errors have their places."""
        text = (
            RULE
            + "global:\n  stats_log_interval: 30\n"
            + "  status: {enabled: true, file: /run/x, interval: 5, format: text}\n"
        )
        self.assertEqual(problems(text), [])
        found = {one.name: (one.words, one.options) for one in parse_yaml(text, "f").directives}
        self.assertEqual(found["status-file"], (("/run/x",), (("interval", "5s"), ("format", "text"))))
        self.assertEqual(found["stats-log"], ((), (("interval", "30s"),)))
        self.assertEqual(len(problems(text.replace("text", "xml"))), 1)

    def test_empty(self) -> None:
        """A file without anything has no rule, and a key without a value is not there."""
        for text in ("", "# nothing\n", "~\n", "rules:\n", "global:\nrules: []\n"):
            self.assertEqual(problems(text), ["0:0 no-rules"], text)
        self.assertEqual(problems(RULE + "  timeout:\n  access: ~\n"), [])

    def test_protocol(self) -> None:
        """A target without a protocol has the listener's, each of several listeners its own."""
        found = parse_yaml("rules: [{bind: ['0.0.0.0:53', '0.0.0.0:53/udp'], connect: 'a:53'}]", "f").rules
        self.assertEqual([one.targets[0].kind for one in found], [Kind.TCP, Kind.UDP])


class WrongTests(YamlTestCase):
    """What is refused, with line and column."""

    def test_syntax(self) -> None:
        """PyYAML's refusals have a place, and so has all that is not read on purpose."""
        deep = "[" * MAX_DEPTH
        for text, place in (
            ("a: [", "1:5 yaml-syntax"),
            ("rules:\n\t- a\n", "2:1 yaml-syntax"),
            ("a: 1\nb: 'x\n", "3:1 yaml-syntax"),
            ("a: &x 1\nb: *x\n", "2:4 yaml-syntax"),
            ("a: !!python/object:os.system x\n", "1:4 yaml-syntax"),
            ("a: !!str x\n", "1:4 yaml-syntax"),
            (RULE + "---\na: 1\n", "4:1 yaml-syntax"),
            (f"{deep}[", f"1:{MAX_DEPTH + 1} yaml-syntax"),
            ("? [a]\n: b\n", "1:3 yaml-type"),
            ("a: 1\nb: \x01\n", "2:4 bad-character"),
            ('a: "\\UFFFFFFFF"\n', "0:0 yaml-syntax"),
            ("%YAML 1." + "9" * 5000 + "\n---\na: 1\n", "0:0 yaml-syntax"),
        ):
            self.assertEqual(problems(text), [place], text[:40])

    def test_no_laughs(self) -> None:
        """A file whose aliases would multiply is refused at the first of them."""
        lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
        self.assertEqual(problems("\n".join(lines)), ["2:10 yaml-syntax"])

    def test_escapes(self) -> None:
        """What an escape makes of a text may be no character that nobody sees, or half of one."""
        for escape in ("\\u0000", "\\t", "\\n", "\\ud800", "\\u200b"):
            self.assertEqual(problems(f'{RULE}  name: "a{escape}b"\n'), ["4:9 bad-character"])

    def test_places(self) -> None:
        """The place within an address is found, in quotes too; with escapes it is the whole text."""
        for text, place in (
            ("0.0.0.0:99999", "2:17 bad-port"),
            ('"0.0.0.0:99999"', "2:18 bad-port"),
            ('"0.0.0.0\\x3a99999"', "2:9 bad-port"),
            ("80x", "2:9 missing-port"),
        ):
            self.assertEqual(problems(RULE.replace("0.0.0.0:80", text)), [place], text)
