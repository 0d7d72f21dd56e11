"""Tests of loops that the text of a rules file shows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Problem, RulesError
from portfwd.rules import parse
from portfwd.rules.findings import Findings
from portfwd.rules.loops import check_loops
from portfwd.rules.model import Ruleset
from portfwd.rules.steps import finish


def problems(text: str) -> list[tuple[str, int]]:
    """Codes and lines of what is said about loops."""
    return [
        (problem.code, problem.location.line)
        for problem in all_problems(text)
        if problem.code in ("loop", "possible-loop")
    ]


def all_problems(text: str) -> list[Problem]:
    """Everything that is said of a file."""
    try:
        ruleset: Ruleset = parse(text, "x")
    except RulesError as error:
        return list(error.problems)
    findings = Findings()
    finish(check_loops(ruleset.rules, findings))
    return list(findings.sorted())


class LoopTests(SynchronousTestCase):
    """`check_loops`."""

    def test_plain(self) -> None:
        """What is certain by its text is an error."""
        for text in (
            "127.0.0.1 9000 127.0.0.1 9000",
            "0.0.0.0 80 0.0.0.0 80",
            "127.0.0.1:80 -> 0.0.0.0:80",
            ":80 -> 127.0.0.1:80",
            ":80 -> [::1]:80",
            "[::]:80 -> [::1]:80",
            "[::]:80 v6only=off -> 127.0.0.1:80",
            "[::1]:80 -> [0:0::1]:80",
            "127.0.0.1:80 -> [::ffff:127.0.0.1]:80",
            "10.0.0.1:80 -> 10.0.0.1:80, 10.0.0.2:80",
            "unix:/run/x -> unix:/run/x",
            "unix-dgram:/run/x -> unix-dgram:/run/x",
            "unix:/run/x -> unix:/run/./x",
            "unix:/run/y/../x -> unix://run/x",
            "127.0.0.1:80/udp -> 127.0.0.1:80/udp",
            "127.0.0.1:80-90 -> 127.0.0.1:80-90",
            "127.0.0.1:80-90 -> 127.0.0.1:85",
            "10.0.0.1:81 -> 10.0.0.9:1\n:80 -> 10.0.0.1:80\n",
        ):
            found = problems(text)
            expected = 2 if text.startswith("10.0.0.1:81") else 1
            self.assertEqual(found[:1], [("loop", expected)], text)

    def test_by_way_of_others(self) -> None:
        """A loop through several rules is told once, at the first of them, with the way it takes."""
        text = "a: :1 -> 127.0.0.1:2\nb: :2 -> unix:/x\nd: :9 -> 127.0.0.1:1\nc: unix:/x -> 127.0.0.1:1\n"
        (problem,) = all_problems(text)
        self.assertEqual((problem.code, problem.location.line), ("loop", 1))
        self.assertEqual(problem.message, "this rule forwards to itself by way of the rule of x:2, x:4")

    def test_perhaps(self) -> None:
        """Where a name, a route or an earlier target decides, it is a warning."""
        for text in (
            "127.0.0.1:80 -> localhost:80",
            "localhost:80 -> 127.0.0.1:80",
            "localhost:80 -> localhost:80",
            ":80 -> localhost:80",
            "web.example:80 -> web.example:80",
            "127.0.0.1:80 -> 10.0.0.1:80, 127.0.0.1:80",
            "127.0.0.1:80 -> 10.0.0.1:80\n    filter sni\n    route a.example -> 127.0.0.1:80",
            ":443 -> 10.0.0.1:80\n    filter sni\n    route a.example -> me\n    target me=127.0.0.1:443",
            ":80 -> 10.0.0.1:80\n    filter tee to=127.0.0.1:80",
            "unix:/x -> 10.0.0.1:80\n    filter tee to=unix:/x",
            ":80 -> 10.0.0.1:80\n    filter tee to=localhost:81\n:81 -> 127.0.0.1:80",
        ):
            self.assertEqual(problems(text), [("possible-loop", 1)], text)

    def test_none(self) -> None:
        """Chains, other ports, other protocols, other hosts, and proxies are no loops."""
        for text in (
            "a: :1 -> 127.0.0.1:2\nb: :2 -> 127.0.0.1:3\n",
            ":80 -> 10.0.0.5:80",
            ":80 -> web:80",
            "10.0.0.1:80 -> 127.0.0.1:80",
            "10.0.0.1:80 -> 0.0.0.0:80",
            "0.0.0.0:80 -> [::1]:80",
            ":80 v6only=on -> 127.0.0.1:80",
            "127.0.0.1:80/udp -> 127.0.0.1:80/tcp",
            "127.0.0.1:8000-8010 -> 127.0.0.1:8001-8011",
            ":80 -> 127.0.0.1:80\n    filter socks5",
            'endpoint:"tcp:80" -> 127.0.0.1:80',
            "unix:/x -> unix:/y",
            ":80 -> 10.0.0.1:80\n    filter tee to=127.0.0.1:81\n:81 -> 10.0.0.1:80",
            ":80 -> 10.0.0.1:80\n    filter tee to=nonsense",
        ):
            self.assertEqual(problems(text), [], text)

    def test_many_ports(self) -> None:
        """Rules with all ports there are do not take for ever, and are told once each."""
        text = "".join(f"127.0.0.{n}:1-65535 -> 127.0.0.{n}:1-65535\n" for n in range(1, 4))
        self.assertEqual(problems(text), [("loop", 1), ("loop", 2), ("loop", 3)])

    @given(st.lists(st.integers(1, 8), min_size=8, max_size=8))
    def test_any_graph(self, targets: list[int]) -> None:
        """A loop is told exactly when following the targets comes back; each loop once."""
        text = "".join(
            f"r{index}: 127.0.0.1:{index} -> 127.0.0.1:{target}\n" for index, target in enumerate(targets, 1)
        )
        loops = set()
        for start in range(1, 9):
            path = [start]
            while path[-1] <= 8 and targets[path[-1] - 1] not in path:
                path.append(targets[path[-1] - 1])
            loops.add(min(path[path.index(targets[path[-1] - 1]) :]))
        self.assertEqual(problems(text), [("loop", line) for line in sorted(loops)])
