"""Tests of `portfwd.rules.queries.explain_text`: the answer in words and as JSON."""

from __future__ import annotations

import json

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Location
from portfwd.rules import parse
from portfwd.rules.model import (
    AclEntry,
    Balance,
    Kind,
    ListenSpec,
    OnLimit,
    Options,
    PortRange,
    RouteSpec,
    Rule,
    Ruleset,
    TargetSpec,
)
from portfwd.rules.queries.explain import explain
from portfwd.rules.queries.explain_text import explanation_json, explanation_text, place


def at(line: int) -> Location:
    """A place in the file."""
    return Location("rules.conf", line, 5)


def entry(line: int, allow: bool, pattern: str) -> AclEntry:
    """An access entry of that line."""
    return AclEntry(allow, pattern, at(line))


RULESET = Ruleset(
    rules=(
        Rule(
            name="web",
            listen=ListenSpec(Kind.TCP, "", PortRange(8080, 8080)),
            targets=(
                TargetSpec(Kind.TCP, "10.0.0.5", PortRange(80, 80), where=at(7)),
                TargetSpec(Kind.TCP, "10.0.0.6", PortRange(80, 80), where=at(8)),
            ),
            options=Options(balance=Balance.LEASTCONN),
            access=(entry(9, True, "192.168.1.*"), entry(10, False, "192.168.1.66")),
            routes=(
                RouteSpec(("a.example", "b.example"), TargetSpec(Kind.UNIX, path="/x", where=at(11)), at(11)),
                RouteSpec(("*",), None, at(12)),
            ),
            where=at(7),
        ),
        Rule(
            name="10.0.0.1:8080",
            listen=ListenSpec(Kind.TCP, "10.0.0.1", PortRange(8080, 8080)),
            targets=(TargetSpec(Kind.UNIX, path="@a\n", where=at(20)),) * 2,
            where=at(20),
        ),
        Rule("db", ListenSpec(Kind.UNIX, path="/db"), (TargetSpec(Kind.UNIX, path="@a"),), where=at(30)),
    ),
    access=(*(entry(line, True, f"{line}.*") for line in (1, 2, 3, 4)), entry(5, True, "192.168.*")),
)


class TextTests(SynchronousTestCase):
    """One fact a line, each with its place."""

    def text(self, client: str, listen: str) -> list[str]:
        """The lines of an answer."""
        return explanation_text(explain(RULESET, client, listen)).split("\n")

    def test_allowed(self) -> None:
        """An allowed client sees the entry, the targets, their order and the routes."""
        self.assertEqual(
            self.text("192.168.1.1", ":8080"),
            [
                "192.168.1.1 to :8080",
                "  rule     web, listens on :8080 (rules.conf:7)",
                "  access   allowed by 'allow 192.168.1.*' (rules.conf:9)",
                "  target   10.0.0.5:80 (rules.conf:7)",
                "  target   10.0.0.6:80 (rules.conf:8)",
                "  order    as balance=leastconn picks, the next when a dial fails",
                "  route    a.example b.example -> unix:/x (rules.conf:11)",
                "  route    * -> close (rules.conf:12)",
                "  not      10.0.0.1:8080 (rules.conf:20)",
            ],
        )

    def test_denied(self) -> None:
        """A denied client sees step and entry and no target."""
        self.assertEqual(
            self.text("192.168.1.66", "web")[1:],
            [
                "  rule     web, listens on :8080 (rules.conf:7)",
                "  access   refused by 'deny 192.168.1.66' (rules.conf:10)",
            ],
        )

    def test_not_allowed(self) -> None:
        """A client that no allow matches sees the first of them; the rule's own are called so."""
        self.assertEqual(
            self.text("9.9.9.9", "web")[2],
            "  access   refused: matches none of global 'allow 1.*' (rules.conf:1), "
            "'allow 2.*' (rules.conf:2), 'allow 3.*' (rules.conf:3) and 2 more",
        )
        self.assertEqual(
            self.text("1.1.1.1", "web")[2],
            "  access   refused: matches none of the rule's own 'allow 192.168.1.*' (rules.conf:9)",
        )

    def test_order_of_the_file(self) -> None:
        """Without balance the order is the file's, and control characters of a path cannot break a line."""
        self.assertEqual(
            self.text("1.1.1.1", "10.0.0.1:8080")[3:],
            [
                r"  target   unix:@a\x0a (rules.conf:20)",
                r"  target   unix:@a\x0a (rules.conf:20)",
                "  order    in this order, the next when a dial fails",
            ],
        )

    def test_filters(self) -> None:
        """The filters of the rule are listed with their options and places."""
        ruleset = parse(":1 -> h:1\n  filter sni\n  filter hexdump bytes=64\n", "f")
        explanation = explain(ruleset, "192.0.2.1", ":1")
        lines = [line.split(None, 1) for line in explanation_text(explanation).splitlines()]
        self.assertEqual(
            [rest for name, rest in lines if name == "filter"], ["sni (f:2)", "hexdump bytes=64 (f:3)"]
        )
        self.assertEqual(
            [one["name"] for one in explanation_json(explanation)["filters"]], ["sni", "hexdump"]
        )

    def test_limits(self) -> None:
        """What bounds sessions and their bytes is said, each limit and direction by itself."""
        for options, lines in (
            (Options(), []),
            (
                Options(max_conns=2, rate_per_source=0.05, max_conns_per_target=5),
                [
                    "  limit    max-conns=2, beyond it clients are refused",
                    "  limit    max-conns-per-target=5, beyond it the next target is tried",
                    "  limit    rate-per-source=0.05/s, beyond it clients are refused",
                ],
            ),
            (
                Options(rate=200.0, max_conns_per_source=1, on_limit=OnLimit.WAIT),
                [
                    "  limit    max-conns-per-source=1, beyond it clients are refused",
                    "  limit    rate=200/s, beyond it clients wait",
                ],
            ),
            (
                Options(bandwidth=10 * 1024**2, bandwidth_down=1536),
                [
                    "  limit    10MiB/s to-upstream, all sessions together",
                    "  limit    1536/s to-client, all sessions together",
                ],
            ),
            (
                Options(bandwidth_per_source=65536),
                ["  limit    64KiB/s in each direction for one client address"],
            ),
            (
                Options(bandwidth_per_connection=65536),
                ["  limit    64KiB/s in each direction for one connection"],
            ),
        ):
            ruleset = Ruleset((evolve(RULESET.rules[2], options=options),))
            self.assertEqual(explanation_text(explain(ruleset, "unix", "db")).split("\n")[4:], lines)

    def test_shared_limits(self) -> None:
        """Limits that the rule shares with others are said with their name and place."""
        text = "limits b max-conns=5 rate=2/m\nx: unix:/x -> a:1 limit=b\n"
        answer = explain(parse(text, "f"), "unix", "x")
        self.assertEqual(
            explanation_text(answer).split("\n")[-1],
            "  limit    b, shared with other rules: max-conns=5, rate=2/m (f:1)",
        )
        self.assertEqual(
            explanation_json(answer)["limits"],
            {
                "name": "b",
                "options": {"max-conns": "5", "rate": "2/m"},
                "file": "f",
                "line": 1,
                "column": 1,
            },
        )

    def test_no_rule(self) -> None:
        """Where no rule takes the connection, that is what is said."""
        self.assertEqual(
            self.text("1.1.1.1", ":1"), ["1.1.1.1 to :1", "  rule     no rule takes this connection"]
        )

    def test_unentered(self) -> None:
        """A client that no entry speaks of is allowed, and the text says why."""
        bare = Ruleset(RULESET.rules)
        self.assertIn(
            "allowed: no entry speaks against it", explanation_text(explain(bare, "1.1.1.1", "10.0.0.1:8080"))
        )
        self.assertEqual(
            self.text("unix", "db")[:3],
            [
                "a client without an address to db",
                "  rule     db, listens on unix:/db (rules.conf:30)",
                "  access   allowed: no list of entries names unix, mode= says who may connect",
            ],
        )

    def test_place(self) -> None:
        """A place is file and line; a TOML file adds the key."""
        self.assertEqual(place(Location("a.toml", 3, 1, key="rules[0].x")), "a.toml:3: rules[0].x")
        self.assertEqual(place(Location("<rule>")), "<rule>")


class JSONTests(SynchronousTestCase):
    """The same for machines."""

    def test_allowed(self) -> None:
        """Rule, entry, targets, routes and others are there with their places, and JSON can carry them."""
        answer = json.loads(json.dumps(explanation_json(explain(RULESET, "192.168.1.1", ":8080"))))
        self.assertEqual(answer["client"], "192.168.1.1")
        self.assertEqual(
            answer["rule"], {"name": "web", "listen": ":8080", "file": "rules.conf", "line": 7, "column": 5}
        )
        self.assertEqual(answer["access"]["allowed"], True)
        self.assertEqual(answer["access"]["entry"]["pattern"], "192.168.1.*")
        self.assertEqual([target["address"] for target in answer["targets"]], ["10.0.0.5:80", "10.0.0.6:80"])
        self.assertEqual(answer["balance"], "leastconn")
        self.assertEqual(
            answer["bandwidth"],
            {"to_upstream": None, "to_client": None, "per_source": None, "per_connection": None},
        )
        self.assertEqual(answer["routes"][0]["target"]["address"], "unix:/x")
        self.assertIsNone(answer["routes"][1]["target"])
        self.assertEqual([other["name"] for other in answer["others"]], ["10.0.0.1:8080"])

    def test_refused(self) -> None:
        """The step and the entries that were asked are there."""
        answer = explanation_json(explain(RULESET, "9.9.9.9", "web"))
        self.assertEqual((answer["access"]["step"], answer["access"]["entry"]), (1, None))
        self.assertEqual(len(answer["access"]["asked"]), 5)

    def test_no_rule(self) -> None:
        """Without a rule, rule and access are null."""
        answer = explanation_json(explain(RULESET, "unix", "unix:/none"))
        self.assertEqual((answer["client"], answer["rule"], answer["access"]), (None, None, None))
        self.assertIsNone(answer["bandwidth"])
