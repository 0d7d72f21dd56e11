"""Tests of `portfwd.rules.grammars.realm` and `portfwd.rules.grammars.json_positions`: realm's files."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.filters.registry import Registry
from portfwd.rules import parse_json, parse_toml
from portfwd.rules.grammars.json_positions import JsonPositions
from portfwd.rules.model import Balance, Keepalive, Kind, Rule
from portfwd.service.build.filters import filter_problems
from tests.rules.golden import FIXTURES

ENDPOINT = {"listen": "0.0.0.0:80", "remote": "10.0.0.5:80"}


def rules(network: object = None, **keys: object) -> tuple[Rule, ...]:
    """The rules of one endpoint."""
    return parse_json(
        json.dumps({"network": network or {}, "endpoints": [{**ENDPOINT, **keys}]}), "f.json"
    ).rules


def problems(network: object = None, **keys: object) -> list[str]:
    """What is wrong with one endpoint."""
    text = json.dumps({"network": network or {}, "endpoints": [{**ENDPOINT, **keys}]})
    try:
        found = parse_json(text, "f.json").warnings
    except RulesError as error:
        found = error.problems
    return [f"{problem.location.key} {problem.code}" for problem in found]


class FixtureTests(SynchronousTestCase):
    """Whole files."""

    def test_toml(self) -> None:
        """Each endpoint becomes a rule for TCP and one for UDP, with what its network says of either."""
        ruleset = parse_toml((FIXTURES / "realm.toml").read_text("utf-8"), "f.toml")
        tcp, udp, google, balanced = ruleset.rules
        self.assertEqual([rule.name for rule in ruleset.rules], [
            "0.0.0.0:5000", "0.0.0.0:5000/udp", "[::]:10000", "0.0.0.0:20000",
        ])  # fmt: skip
        self.assertEqual([tcp.targets[0].kind, udp.targets[0].kind], [Kind.TCP, Kind.UDP])
        self.assertEqual((tcp.options.connect_timeout, udp.options.idle, tcp.options.src), (7, 30, None))
        self.assertEqual(tcp.options.keepalive, Keepalive(True, 15, 15, 3))
        self.assertEqual((google.listen.options.v6only, google.options.src), (True, "10.0.0.1"))
        self.assertEqual(google.options.keepalive, Keepalive(False))
        self.assertEqual(google.options.connect_timeout, 5)
        self.assertEqual(balanced.options.balance, Balance.ROUNDROBIN)
        self.assertEqual([target.options.weight for target in balanced.targets], [4, 2, 1])
        self.assertEqual([(spec.name, spec.options) for spec in balanced.filters], [
            ("proxy-in", (("trust", "0.0.0.0/0,::/0"), ("timeout", "5s"))),
            ("proxy-out", (("version", "1"),)),
        ])  # fmt: skip
        self.assertEqual(filter_problems(ruleset, Registry.installed()), ())
        self.assertEqual([f"{one.location.line} {one.location.key} {one.code}" for one in ruleset.warnings], [
            "2 log directive-without-meaning",
            "6 dns directive-without-meaning",
            "17 network.zero_copy directive-without-meaning",
            "28 endpoints[1].through option-without-meaning",
            "39 endpoints[2].network.accept_proxy trusts-everyone",
        ])  # fmt: skip

    def test_json(self) -> None:
        """JSON is the same."""
        ruleset = parse_json((FIXTURES / "realm.json").read_text("utf-8"), "f.json")
        self.assertEqual([rule.listen.kind for rule in ruleset.rules], [Kind.TCP, Kind.UDP, Kind.UDP])
        last = ruleset.rules[2]
        self.assertEqual((last.options.balance, last.where.line), (Balance.SOURCE, 15))
        self.assertEqual([target.options.weight for target in last.targets], [4, 2, 1])
        self.assertEqual([target.where.line for target in last.targets], [17, 19, 20])


class EndpointTests(SynchronousTestCase):
    """Single keys."""

    def test_balance(self) -> None:
        """Without ``balance``, or with off, realm uses the first remote alone."""
        extra = ["10.0.0.6:80"]
        for keys, targets, told in (
            ({}, 1, []),
            ({"extra_remotes": extra}, 1, ["endpoints[0].extra_remotes option-without-meaning"]),
            ({"extra_remotes": extra, "balance": "off"}, 1, []),
            ({"extra_remotes": extra, "balance": "iphash"}, 2, []),
            ({"extra_remotes": extra, "balance": "RoundRobin:"}, 2, []),
        ):
            (rule,) = rules(**keys)
            self.assertEqual((len(rule.targets), problems(**keys)), (targets, told), keys)
        for balance in (
            "failover",
            "roundrobin: 1",
            "roundrobin: 1, 2, 3",
            "iphash: 1, 999",
            "roundrobin: 1,",
        ):
            told = problems(extra_remotes=extra, balance=balance)
            self.assertEqual([one.split()[0] for one in told], ["endpoints[0].balance"], balance)

    def test_refused(self) -> None:
        """What would send bytes another way is an error."""
        for key in ("listen_transport", "remote_transport", "interface", "listen_interface"):
            self.assertEqual(problems(**{key: "tls"}), [f"endpoints[0].{key} not-yet"])

    def test_neither(self) -> None:
        """An endpoint that forwards nothing is an error."""
        self.assertEqual(problems({"no_tcp": True}), ["endpoints[0] bad-value"])

    def test_through(self) -> None:
        """The address alone counts."""
        for text, source in (
            ("::", None),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:53", "2001:db8::1"),
        ):
            (rule,) = rules(through=text, remote="[2001:db8::2]:80")
            self.assertEqual(rule.options.src, source)


class PositionTests(SynchronousTestCase):
    """Where the keys of JSON stand."""

    def test_at(self) -> None:
        """Each key, and each item of a list, has its line and column; strings may hold brackets."""
        text = '{"a": ["]", {"b\\"": 1,\n "c": [[2], 3]}],\n "d": {}, "e": 5}'
        positions = JsonPositions("f", text)
        for path, place in (
            (("a",), "1:2"), (("a", 0), "1:8"), (("a", 1), "1:13"), (("a", 1, "c"), "2:2"),
            (("a", 1, "c", 0), "2:8"), (("a", 1, "c", 1), "2:13"), (("d",), "3:2"), (("e",), "3:11"),
            (("a", 1, "c", 0, 0), "2:8"), (("x",), "0:0"),
        ):  # fmt: skip
            where = positions.at(path)
            self.assertEqual(f"{where.line}:{where.column}", place, path)

    def test_whole(self) -> None:
        """Files that are no realm file at all."""
        for text, code in (
            ("", "json-syntax"), ("[]", "json-type"), ("[" * 100_000, "json-syntax"),
            ("9" * 5000, "json-syntax"),
            ('{"endpoints": [{"listen": ":1", "listen": ":2", "remote": "a:1"}]}', "duplicate-option"),
            ("{}", "missing-key"), ('{"endpoints": 5}', "json-type"), ('{"endpoints": [5]}', "json-type"),
            ('{"endpoints": [], "network": 5}', "json-type"), ('{"endpoints": []}', "no-rules"),
        ):  # fmt: skip
            try:
                found = parse_json(text, "f").warnings
            except RulesError as error:
                found = error.problems
            self.assertEqual([one.code for one in found], [code], text[:20])
