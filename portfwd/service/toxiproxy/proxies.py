# -*- test-case-name: tests.service.toxiproxy.test_proxies -*-
"""
The proxies that toxiproxy's clients make: each that is enabled is a rule of the forwarder.

Changes come one after the other, in the order in which they are asked for. A proxy that is disabled, deleted
or moved closes its connections, as toxiproxy does. A proxy and its toxics may come in one request
(``toxics``), and ``"protocol": "udp"`` makes one for datagrams; toxiproxy knows neither.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeVar

from attrs import define, evolve
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import deferLater

from portfwd.admin.toxiproxy_api import ToxiproxyError
from portfwd.errors import Location, RulesError
from portfwd.filters.builtin.toxic_slots import ToxicSet
from portfwd.filters.builtin.toxics import BadToxic, Toxic, changed_toxic, read_toxic, text_of
from portfwd.kernel.reactor import Reactor
from portfwd.rules.diagnostics import format_problem
from portfwd.rules.model import Rule, Ruleset
from portfwd.rules.tokens import NAME
from portfwd.service.build.from_objects import ruleset_from
from portfwd.service.run.reload import ReloadResult
from portfwd.service.toxiproxy.places import ProxyPlace

#: Proxies at a time: each has a listener, and every change looks at all rules.
MOST_PROXIES: Final = 1000

_PROTOCOLS: Final = ("tcp", "udp")

T = TypeVar("T")
Json = dict[str, Any]


class TakesRules(Protocol):
    """What is asked of a forwarder."""

    ruleset: Ruleset

    @property
    def addresses(self) -> Mapping[str, Sequence[str]]:
        """Names of rules to where they listen."""

    def add_rules(self, rules: Sequence[Rule]) -> Deferred[ReloadResult]:
        """Let these be at work as well."""


@define(eq=False)
class ToxicProxy:
    """
    One proxy.

    :ivar listen: where it listens, or will; a port that was chosen stays.
    :ivar rule: of the forwarder; None while it is disabled.
    """

    name: str
    listen: ProxyPlace
    upstream: str
    protocol: str
    toxics: ToxicSet
    rule: Rule | None = None

    def as_json(self) -> Json:
        """As an answer has it."""
        return {
            "name": self.name,
            "listen": str(self.listen),
            "upstream": self.upstream,
            "enabled": self.rule is not None,
            "protocol": self.protocol,
            "toxics": [one.as_json() for one in self.toxics],
        }


class ToxicProxies:
    """All proxies, for `portfwd.admin.toxiproxy_api`."""

    def __init__(self, forwarder: TakesRules, reactor: Reactor, seed: int = 0) -> None:
        """:param seed: the chances of all toxics follow from it."""
        self._forwarder = forwarder
        self._reactor = reactor
        self._seed = seed
        self._proxies: dict[str, ToxicProxy] = {}
        self._turn = DeferredLock()

    def __repr__(self) -> str:
        return f"<ToxicProxies {len(self._proxies)}>"

    # Looking

    def proxies(self) -> Json:
        """All of them by name."""
        return {name: one.as_json() for name, one in self._proxies.items()}

    def proxy(self, name: str) -> Json:
        """One of them."""
        return self._named(name).as_json()

    def toxics(self, name: str) -> list[Json]:
        """The toxics of a proxy."""
        return [one.as_json() for one in self._named(name).toxics]

    def toxic(self, name: str, toxic: str) -> Json:
        """One of them."""
        return self._toxic(self._named(name), toxic).as_json()

    def _named(self, name: str) -> ToxicProxy:
        found = self._proxies.get(name)
        if found is None:
            raise ToxiproxyError("proxy not found", 404)
        return found

    def _toxic(self, proxy: ToxicProxy, name: str) -> Toxic:
        found = proxy.toxics.get(name)
        if found is None:
            raise ToxiproxyError("toxic not found", 404)
        return found

    # Proxies

    async def create(self, data: Any) -> Json:
        """A new proxy, enabled unless it says otherwise."""
        return await self._in_turn(lambda: self._create(data))

    async def _create(self, data: Any) -> Json:
        proxy, enabled = self._read(data, "")
        if proxy.name in self._proxies:
            raise ToxiproxyError("proxy already exists", 409)
        await self._put(proxy, enabled)
        return proxy.as_json()

    async def _put(self, proxy: ToxicProxy, enabled: bool) -> None:
        if len(self._proxies) >= MOST_PROXIES:
            raise ToxiproxyError(f"too many proxies: there are at most {MOST_PROXIES}", 409)
        if enabled:
            await self._start(proxy)
        self._proxies[proxy.name] = proxy

    async def update(self, name: str, data: Any) -> Json:
        """Move a proxy, or switch it on or off; what is not said stays."""
        return await self._in_turn(lambda: self._update(name, data))

    async def _update(self, name: str, data: Any) -> Json:
        proxy = self._named(name)
        said = _object(data)
        listen = _place(_text(said, "listen", str(proxy.listen))).here
        upstream = str(_place(_text(said, "upstream", proxy.upstream)))
        enabled = _switch(said, proxy.rule is not None)
        if (listen, upstream) != (proxy.listen, proxy.upstream) or not enabled:
            await self._stop(proxy)
            proxy.listen, proxy.upstream = listen, upstream
        if enabled and proxy.rule is None:
            await self._start(proxy)
        return proxy.as_json()

    async def delete(self, name: str) -> None:
        """End a proxy."""
        await self._in_turn(lambda: self._delete(name))

    async def _delete(self, name: str) -> None:
        await self._stop(self._named(name))
        self._proxies.pop(name).toxics.clear()

    async def populate(self, data: Any) -> tuple[list[Json], ToxiproxyError | None]:
        """
        Make several proxies, or replace those that are otherwise; the same ones stay as they are.

        :returns: those that there are then, and what was wrong with the one behind them.
        """
        return await self._in_turn(lambda: self._populate(data))

    async def _populate(self, data: Any) -> tuple[list[Json], ToxiproxyError | None]:
        if not isinstance(data, list):
            return [], ToxiproxyError("bad request body: expected a list of proxies", 400)
        made: list[Json] = []
        try:
            wanted = [self._read(one, f" at proxy {number}") for number, one in enumerate(data, 1)]
            for proxy, enabled in wanted:
                made.append(await self._add_or_replace(proxy, enabled))
        except ToxiproxyError as problem:
            return made, problem
        return made, None

    async def _add_or_replace(self, proxy: ToxicProxy, enabled: bool) -> Json:
        there = self._proxies.get(proxy.name)
        if there is not None:
            if _place_of(there) == _place_of(proxy):
                return there.as_json()
            await self._stop(there)
            del self._proxies[proxy.name]
        await self._put(proxy, enabled)
        return proxy.as_json()

    async def reset(self) -> None:
        """Enable every proxy, and end all toxics."""
        await self._in_turn(self._reset)

    async def _reset(self) -> None:
        for proxy in tuple(self._proxies.values()):
            if proxy.rule is None:
                await self._start(proxy)
            proxy.toxics.clear()
        await self._told()

    # Toxics

    async def add_toxic(self, name: str, data: Any) -> Json:
        """A new toxic of a proxy."""
        proxy = self._named(name)
        (toxic,) = _add_all(proxy.toxics, [data])
        await self._told()
        return toxic.as_json()

    async def change_toxic(self, name: str, toxic: str, data: Any) -> Json:
        """Other attributes, or another toxicity."""
        toxics = self._named(name).toxics
        before = self._toxic(self._named(name), toxic)
        with _bad_request():
            after = changed_toxic(before, data)
            toxics.change(after)
        await self._told()
        return after.as_json()

    async def remove_toxic(self, name: str, toxic: str) -> None:
        """End a toxic."""
        proxy = self._named(name)
        self._toxic(proxy, toxic)
        proxy.toxics.remove(toxic)
        await self._told()

    async def _told(self) -> None:
        """Connections that are open hear of a change in the next turn: answer behind that."""
        await deferLater(self._reactor, 0)

    # Rules

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        await self._turn.acquire()
        try:
            return await work()
        finally:
            self._turn.release()

    async def _start(self, proxy: ToxicProxy) -> None:
        rule = self._rule_of(proxy)
        await self._apply([*self._rules(), rule])
        proxy.rule = rule
        bound = self._forwarder.addresses.get(rule.name, ())
        if bound:
            proxy.listen = evolve(proxy.listen, port=int(bound[0].rpartition(":")[2]))

    async def _stop(self, proxy: ToxicProxy) -> None:
        rule, proxy.rule = proxy.rule, None
        if rule is not None:
            await self._apply(self._rules())

    def _rules(self) -> list[Rule]:
        return [one.rule for one in self._proxies.values() if one.rule is not None]

    async def _apply(self, rules: Sequence[Rule]) -> None:
        result = await self._forwarder.add_rules(rules)
        if result.refused:
            raise ToxiproxyError(result.failures[0], 500)

    def _rule_of(self, proxy: ToxicProxy) -> Rule:
        suffix = "/udp" if proxy.protocol == "udp" else ""
        upstream = ProxyPlace.read(proxy.upstream)
        try:
            made = ruleset_from(
                f"{proxy.listen.words}{suffix}",
                f"{upstream}{suffix}",
                filters=proxy.toxics.slots,
                name=self._name_for(proxy),
                options={"on_remove": "cut"},
            )
        except RulesError as refused:
            raise ToxiproxyError(format_problem(refused.problems[0]), 400) from None
        (rule,) = made.rules
        filters = tuple(evolve(one, name="toxic") for one in rule.filters)
        return evolve(rule, filters=filters, where=Location(f"toxiproxy proxy {proxy.name!r}"))

    def _name_for(self, proxy: ToxicProxy) -> str:
        """The proxy's own name, if a rule may be called so and none is."""
        taken = {rule.name for rule in self._forwarder.ruleset.rules}
        name = proxy.name
        if name in taken or not NAME.fullmatch(name):
            name = f"toxiproxy-{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}"
        number, found = 1, name
        while found in taken:
            number += 1
            found = f"{name}-{number}"
        return found

    # What clients say

    def _read(self, data: Any, which: str) -> tuple[ToxicProxy, bool]:
        said = _object(data)
        name, upstream = (_text(said, key, "") for key in ("name", "upstream"))
        for key, value in (("name", name), ("upstream", upstream)):
            if not value:
                raise ToxiproxyError(f"missing required field: {key}{which}", 400)
        protocol = _text(said, "protocol", "tcp")
        if protocol not in _PROTOCOLS:
            raise ToxiproxyError("protocol was invalid, can be either tcp or udp", 400)
        listen = _place(_text(said, "listen", "") or ":0").here
        toxics = ToxicSet(self._seed, datagrams=protocol == "udp")
        more = said.get("toxics")
        if more is None:
            more = []
        if not isinstance(more, list):
            raise ToxiproxyError("bad request body: toxics must be a list", 400)
        _add_all(toxics, more)
        proxy = ToxicProxy(name, listen, str(_place(upstream)), protocol, toxics)
        return proxy, _switch(said, True)


def _place_of(proxy: ToxicProxy) -> tuple[ProxyPlace, str, str]:
    return proxy.listen, proxy.upstream, proxy.protocol


@contextmanager
def _bad_request() -> Iterator[None]:
    """What is wrong with a toxic is the client's mistake."""
    try:
        yield
    except BadToxic as problem:
        raise ToxiproxyError(str(problem), 400) from None


def _object(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ToxiproxyError("bad request body: expected an object", 400)
    return data


def _text(said: Mapping[str, Any], key: str, default: str) -> str:
    with _bad_request():
        return text_of(said, key, default)


def _switch(said: Mapping[str, Any], default: bool) -> bool:
    value = said.get("enabled")
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ToxiproxyError("bad request body: enabled must be true or false", 400)
    return value


def _place(text: str) -> ProxyPlace:
    try:
        return ProxyPlace.read(text)
    except ValueError as problem:
        raise ToxiproxyError(f"bad request body: {problem}", 400) from None


def _add_all(toxics: ToxicSet, data: Iterable[Any]) -> list[Toxic]:
    """Begin with these, and return them."""
    added = []
    with _bad_request():
        for one in data:
            toxic = read_toxic(one)
            if toxics.get(toxic.name) is not None:
                raise ToxiproxyError("toxic already exists", 409)
            toxics.add(toxic)
            added.append(toxic)
    return added
