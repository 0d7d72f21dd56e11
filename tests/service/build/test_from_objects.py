"""Rules from objects: endpoints, filters, options as keywords."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.filters import Factory, Filter, RouteClause
from portfwd.rules import parse_rule
from portfwd.rules.model import Balance, Kind, Rule
from portfwd.service.build.filters import configure, filter_problems
from portfwd.service.build.from_objects import ruleset_from, ruleset_of

LISTEN, TO = "127.0.0.1:8080", "10.0.0.5:80"


class Loud(Filter):
    """A filter with an argument."""

    def __init__(self, limit: int = 3) -> None:
        self.limit = limit


class Misspelt(Filter):
    """A filter with a method that nobody calls."""

    def recieved(self, direction: object, data: bytes) -> None: ...


class Choosing(Filter):
    """A filter that takes routes."""

    routes = True

    def __init__(self, clauses: tuple[RouteClause, ...] = ()) -> None:
        self.clauses = clauses


def a_client(host: str = "10.0.0.5") -> TCP4ClientEndpoint:
    """An endpoint of Twisted's."""
    return TCP4ClientEndpoint(cast(Any, MemoryReactorClock()), host, 80)


def a_server() -> TCP4ServerEndpoint:
    """An endpoint of Twisted's."""
    return TCP4ServerEndpoint(cast(Any, MemoryReactorClock()), 8080)


class RulesetFromTests(SynchronousTestCase):
    """What comes of the arguments of `portfwd.forward`."""

    def _rule(self, *args: Any, **kw: Any) -> Rule:
        (rule,) = ruleset_from(*args, **kw).rules
        return rule

    def test_as_text(self) -> None:
        """Addresses, options and clauses mean what they mean as text, whatever the type of a value."""
        text = parse_rule(
            "web: 127.0.0.1:8080 backlog=5 -> 10.0.0.5:80, tls:h.example:443 idle=5m nodelay=off"
            " balance=random max-conns=7 alpn=h2\n    filter hexdump\n    allow 10.0.0.0/8"
        )
        options = {
            "backlog": 5,
            "idle": 300,
            "nodelay": False,
            "balance": Balance.RANDOM,
            "max_conns": 7,
            "target_alpn": "h2",
        }
        made = ruleset_from(
            LISTEN, [TO, "tls:h.example:443"], ["hexdump"], ["allow 10.0.0.0/8"], "web", options
        )
        self.assertEqual(made.rules, text.rules)

    def test_endpoints(self) -> None:
        """An endpoint stands in its place among the targets, and each has a name of its own."""
        server, first, second = a_server(), a_client(), a_client("10.0.0.6")
        rule = self._rule(server, [first, TO, second])
        self.assertEqual(rule.name, "TCP4ServerEndpoint")
        self.assertEqual((rule.listen.kind, rule.listen.given), (Kind.ENDPOINT, server))
        self.assertEqual([one.given for one in rule.targets], [first, None, second])
        self.assertEqual(
            [one.path for one in rule.targets], ["TCP4ClientEndpoint", "", "TCP4ClientEndpoint-2"]
        )
        self.assertEqual(rule.written[0], "TCP4ServerEndpoint")

    def test_equality(self) -> None:
        """Rules with the same object are equal, and those with another one are not."""
        server = a_server()
        self.assertEqual(self._rule(server, TO), self._rule(server, TO))
        self.assertNotEqual(self._rule(server, TO), self._rule(a_server(), TO))
        hash(self._rule(server, TO, [Loud()]))

    def test_filters_in_order(self) -> None:
        """Texts and objects keep their order."""
        rule = self._rule(LISTEN, TO, [Loud, "hexdump", Loud(), "sniff"])
        self.assertEqual([one.name for one in rule.filters], ["Loud", "hexdump", "Loud", "sniff"])

    def test_routes(self) -> None:
        """A class of filters that takes routes is given those of the clauses."""
        ruleset = ruleset_from(LISTEN, TO, [Choosing], ["route a.example -> 10.0.0.9:80"])
        (clause,) = configure(ruleset.rules[0], cast(Any, None)).clauses
        self.assertEqual(clause.factory.build(None).clauses[0].patterns, ("a.example",))

    def test_wrong_types(self) -> None:
        """An argument of a wrong type is a TypeError that names the argument."""
        wrong: list[tuple[Any, ...]] = [
            (8080, TO),
            (a_client(), TO),
            (LISTEN, a_server()),
            (LISTEN, [TO, 5]),
            (LISTEN, TO, Loud),
            (LISTEN, TO, "hexdump"),
            (LISTEN, TO, (), "allow 10.0.0.0/8"),
            (LISTEN, TO, (), [7]),
            (LISTEN, TO, (), (), None, {"idle": object()}),
        ]
        for arguments in wrong:
            self.assertRaises(TypeError, ruleset_from, *arguments)
        self.assertRaises(TypeError, ruleset_of, 5)
        self.assertRaises(ValueError, ruleset_from, LISTEN, TO, (), ["allow 10.0.0.0/8\n:1 -> :2"])

    def test_wrong_values(self) -> None:
        """What the reader of the text refuses, it refuses here, with its hint."""
        problem = self.assertRaises(RulesError, ruleset_from, LISTEN, TO, (), (), None, {"idel": "5m"})
        self.assertIn("idle", problem.problems[0].hint)
        self.assertRaises(RulesError, ruleset_from, LISTEN, TO, (), (), None, {"idle": "soon"})
        self.assertRaises(RulesError, ruleset_from, "nowhere", TO)

    def test_wrong_filters(self) -> None:
        """Filters have the checks of those that a rules file names."""
        wrong: list[Any] = [
            object(),
            7,
            Misspelt,
            Misspelt(),
            partial(Misspelt),
            partial(dict),
            Factory(Loud, max_hold="16KiB"),
        ]  # type: ignore[arg-type]
        for thing in wrong:
            problems = filter_problems(ruleset_from(LISTEN, TO, [thing]))
            self.assertIn(problems[0].code, ("bad-filter", "bad-filter-option"), thing)
