# -*- test-case-name: tests.rules.test_loops -*-
"""
Finds rules that forward to their own listener, directly or through other rules.

It finds loops that the text of the rules shows: the same address, a listener on all addresses and a target on
the loopback interface, ``localhost``, equal names. A loop that is certain is an error. If it depends on a
name, a route, or the failure of a first target, or if only a copy (``filter tee``) returns, it is a warning.
Loops through DNS or other programs are not found here.

Pure. The time is linear in the ports of the rules whose targets are on this machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from attrs import frozen

from portfwd.rules.addresses import Role, plain_path, read_place
from portfwd.rules.findings import Findings
from portfwd.rules.model import DATAGRAM_KINDS, UNIX_KINDS, FilterSpec, ListenSpec, Rule, TargetSpec
from portfwd.rules.steps import Steps
from portfwd.rules.tokens import Word, WordFault

#: Most ports examined. Ranges that forward to each other could make a path of 65 535 steps for each rule.
MAX_PORTS: Final = 100_000

#: Filters whose clients choose the destination. The target of the rule is never dialled.
_CHOOSING: Final = frozenset({"socks5", "http-connect"})

#: Filters that send a copy of the bytes to another address, and the option with that address.
_COPYING: Final = {"tee": "to"}


class _Node(NamedTuple):
    """One port of a rule. :ivar number: of the rule. :ivar offset: which port of its range."""

    number: int
    offset: int


#: The port of the rule that a target reaches, and whether that is certain.
_Edge = tuple[_Node, bool]


def check_loops(rules: Sequence[Rule], findings: Findings) -> Steps[None]:
    """Report each loop once, at its first rule in the file."""
    graph = _Graph(rules)
    yield from graph.read()
    # A range maps ports by a constant offset, so every loop of ranges contains the first port of one of them,
    # and a rule with a single target port maps all of its ports alike. Only first ports need be tried.
    starts = [_Node(index, 0) for index in graph.here]
    told: set[frozenset[int]] = set()
    for certain in (True, False):
        for loop in _loops(graph, starts, certain=certain):
            key = frozenset(node.number for node in loop)
            if key and key not in told:
                told.add(key)
                _tell(rules, [node.number for node in loop], findings, certain=certain)
            yield


def _targets(rule: Rule) -> Iterator[TargetSpec]:
    if not any(clause.name in _CHOOSING for clause in rule.filters):
        yield from rule.targets
    for route in rule.routes:
        if isinstance(route.target, TargetSpec):
            yield route.target
    yield from rule.named_targets
    for clause in rule.filters:
        yield from _copied_to(clause)


def _copied_to(clause: FilterSpec) -> Iterator[TargetSpec]:
    wanted = _COPYING.get(clause.name)
    for key, value in clause.options:
        if key == wanted:
            try:
                place = read_place(
                    Word(value, 1, len(value), len(value)), Role.TARGET, lambda name, protocol: None
                )
            except WordFault:
                continue  # the filter refuses it
            yield TargetSpec(place.kind, place.host, place.ports, place.path)


@frozen
class _Host:
    """
    A host in the form used for comparison.

    :ivar text: a literal in its canonical form, or a name in lower case.
    :ivar is_address: whether it is a literal.
    """

    text: str
    is_address: bool
    is_loopback: bool
    is_wildcard: bool


class _Graph:
    """
    The graph of ports: which port of a rule reaches which port of another one.

    :ivar here: the rules with a target on this machine, as far as the text shows.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.here: list[int] = []
        self._rules = rules
        self._hosts: dict[str, _Host] = {}
        self._listening: set[str] = set()
        self._paths: dict[tuple[bool, str], int] = {}
        self._single: dict[tuple[bool, int], list[int]] = {}
        self._ranges: list[int] = []

    def read(self) -> Steps[None]:
        """Index the listeners and targets of the rules."""
        for index, rule in enumerate(self._rules):
            if rule.listen.ports is not None:
                self._listening.add(self._host(rule.listen.host).text)
            elif rule.listen.kind in UNIX_KINDS:
                self._paths[_datagrams(rule.listen), plain_path(rule.listen.path)] = index
            yield
        for index, rule in enumerate(self._rules):
            if any(self._is_here(target) for target in _targets(rule)):
                self.here.append(index)
                ports = rule.listen.ports
                if ports is not None and len(ports) == 1:
                    self._single.setdefault((_datagrams(rule.listen), ports.first), []).append(index)
                elif ports is not None:
                    self._ranges.append(index)
            yield

    def _host(self, text: str) -> _Host:
        known = self._hosts.get(text)
        if known is None:
            self._hosts[text] = known = _read_host(text)
        return known

    def _is_here(self, target: TargetSpec) -> bool:
        if target.kind in UNIX_KINDS:
            return (_datagrams(target), plain_path(target.path)) in self._paths
        host = self._host(target.host)
        return target.ports is not None and (
            host.is_loopback or host.is_wildcard or host.text in self._listening
        )

    def _at(self, datagrams: bool, port: int) -> Iterator[_Node]:
        """The rules with local targets that listen on `port`, on any host."""
        for index in self._single.get((datagrams, port), ()):
            yield _Node(index, 0)
        for index in self._ranges:
            listen = self._rules[index].listen
            if listen.ports is not None and _datagrams(listen) is datagrams:
                offset = port - listen.ports.first
                if 0 <= offset < len(listen.ports):
                    yield _Node(index, offset)

    def edges(self, node: _Node) -> Iterator[_Edge]:
        """The nodes that `node` reaches."""
        rule = self._rules[node.number]
        first = rule.targets[0] if rule.targets and not rule.routes else None
        for target in _targets(rule):
            if not self._is_here(target):
                continue
            if target.ports is None:
                path = plain_path(target.path)
                yield _Node(self._paths[_datagrams(target), path], 0), target is first
                continue
            port = target.ports.first + (node.offset if len(target.ports) > 1 else 0)
            for other in self._at(_datagrams(target), port):
                listen = self._rules[other.number].listen
                match = _match(self._host(target.host), self._host(listen.host), listen.options.v6only)
                if match is not None:
                    yield other, match and target is first


def _match(target: _Host, listen: _Host, v6only: bool | None) -> bool | None:
    """Whether a connection to `target` certainly reaches `listen`; None if the texts exclude it."""
    if listen.text == target.text and not listen.is_wildcard:
        return listen.is_address
    if listen.is_wildcard:
        if not target.is_address:
            return False  # a name of this machine
        return True if _fits(target.text, listen.text, v6only=v6only) else None
    if target.is_wildcard:
        return True if listen.is_loopback and (":" in listen.text) == (":" in target.text) else None
    if "localhost" in (target.text, listen.text) and target.is_loopback and listen.is_loopback:
        return False
    return None


def _loops(graph: _Graph, nodes: Sequence[_Node], *, certain: bool) -> Iterator[list[_Node]]:
    """Iterate over the loops found by a search from each of `nodes`, with an empty list between two steps."""
    done: set[_Node] = set()
    for start in nodes:
        if start in done or len(done) > MAX_PORTS:
            continue
        path = [start]
        places = {start: 0}
        waiting = [iter([edge for edge in graph.edges(start) if edge[1] or not certain])]
        while path:
            following = next(waiting[-1], None)
            if following is None:
                waiting.pop()
                done.add(path[-1])
                del places[path.pop()]
                yield []
                continue
            node, _ = following
            if node in places:
                yield path[places[node] :]
            elif node not in done and len(done) + len(path) <= MAX_PORTS:
                places[node] = len(path)
                path.append(node)
                waiting.append(iter([edge for edge in graph.edges(node) if edge[1] or not certain]))


def _tell(rules: Sequence[Rule], loop: list[int], findings: Findings, *, certain: bool) -> None:
    # Start at the first rule in the file.
    start = loop.index(min(loop))
    first, *others = loop[start:] + loop[:start]
    path = ", ".join(f"{rules[index].where.file}:{rules[index].where.line}" for index in islice(others, 5))
    by_path = f" by way of the rule of {path}" if path else ""
    where = rules[first].targets[0].where if rules[first].targets else rules[first].where
    if certain:
        findings.error(
            where,
            "loop",
            f"this rule forwards to itself{by_path}",
            "every connection would come back here: give it another target",
        )
    else:
        findings.warning(
            where,
            "possible-loop",
            f"this rule may forward to itself{by_path}",
            "a connection that comes back to a rule is refused (close reason OC)",
        )


def _datagrams(spec: ListenSpec | TargetSpec) -> bool:
    return spec.kind in DATAGRAM_KINDS


def _read_host(text: str) -> _Host:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        name = text.lower().removesuffix(".")
        return _Host(name, False, name == "localhost", not name)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = address if mapped is None else mapped
    return _Host(str(address), True, address.is_loopback, address.is_unspecified)


def _fits(target: str, wildcard: str, *, v6only: bool | None) -> bool:
    """Whether a listener on all addresses receives connections to the literal `target`."""
    if wildcard == "":
        return not v6only or ":" in target
    if wildcard == "::":
        return ":" in target or v6only is False
    return ":" not in target
