# -*- test-case-name: tests.service.toxiproxy.test_proxies -*-
"""
The proxies of toxiproxy's clients. Each enabled proxy is a rule of the forwarder.

Changes are made one after the other, in the order of the requests. A proxy that is disabled, deleted or moved
closes its connections, as in toxiproxy. Two extensions: one request may make a proxy with its toxics
(``toxics``), and ``"protocol": "udp"`` makes a proxy for datagrams.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
from portfwd.rules.model import NOWHERE, Rule, Ruleset
from portfwd.rules.steps import Steps
from portfwd.rules.tokens import NAME
from portfwd.service.build.from_objects import ruleset_from
from portfwd.service.daemon.slices import Slices
from portfwd.service.run.reload import ReloadResult
from portfwd.service.toxiproxy.proxy_address import ProxyAddress

#: Maximum number of proxies. Each has a listener, and each change compares all rules.
MOST_PROXIES: Final = 1000

_PROTOCOLS: Final = ("tcp", "udp")

T = TypeVar("T")
Json = dict[str, Any]


class AcceptsRules(Protocol):
    """The required interface of a forwarder."""

    ruleset: Ruleset

    @property
    def addresses(self) -> Mapping[str, Sequence[str]]:
        """The bound addresses of rules, by name."""

    def add_rules(self, rules: Sequence[Rule]) -> Deferred[ReloadResult]:
        """Replace the rules that were added before by these."""


@define(eq=False)
class ToxicProxy:
    """
    One proxy.

    :ivar listen: its listen address. A port that the kernel chose is kept.
    :ivar rule: its rule of the forwarder; None while it is disabled.
    """

    name: str
    listen: ProxyAddress
    upstream: str
    protocol: str
    toxics: ToxicSet
    rule: Rule | None = None

    def as_json(self) -> Json:
        """The JSON object in answers."""
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

    def __init__(self, forwarder: AcceptsRules, reactor: Reactor, seed: int = 0) -> None:
        """:param seed: seed of the random decisions of all toxics."""
        self._forwarder = forwarder
        self._reactor = reactor
        self._seed = seed
        self._proxies: dict[str, ToxicProxy] = {}
        self._turn = DeferredLock()

    def __repr__(self) -> str:
        return f"<ToxicProxies {len(self._proxies)}>"

    # Looking

    def proxies(self) -> Json:
        """All proxies by name."""
        return {name: one.as_json() for name, one in self._proxies.items()}

    def proxy(self, name: str) -> Json:
        """One proxy."""
        return self._named(name).as_json()

    def toxics(self, name: str) -> list[Json]:
        """The toxics of a proxy."""
        return [one.as_json() for one in self._named(name).toxics]

    def toxic(self, name: str, toxic: str) -> Json:
        """One toxic of a proxy."""
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
        """Create a proxy; it is enabled by default."""
        return await self._in_turn(lambda: self._create(data))

    async def _create(self, data: Any) -> Json:
        proxy, enabled = self._read(data, "")
        if proxy.name in self._proxies:
            raise ToxiproxyError("proxy already exists", 409)
        await self._become({**self._proxies, proxy.name: proxy}, {proxy.name} if enabled else ())
        return proxy.as_json()

    async def update(self, name: str, data: Any) -> Json:
        """Change the addresses of a proxy, or enable or disable it. Missing attributes are not changed."""
        return await self._in_turn(lambda: self._update(name, data))

    async def _update(self, name: str, data: Any) -> Json:
        proxy = self._named(name)
        fields = _object(data)
        listen = _address(_text(fields, "listen", str(proxy.listen))).here
        upstream = str(_address(_text(fields, "upstream", proxy.upstream)))
        enabled = _switch(fields, proxy.rule is not None)
        stays = enabled and (listen, upstream) == (proxy.listen, proxy.upstream)
        after = evolve(proxy, listen=listen, upstream=upstream, rule=proxy.rule if stays else None)
        await self._become({**self._proxies, name: after}, {name} if enabled else ())
        return after.as_json()

    async def delete(self, name: str) -> None:
        """Delete a proxy."""
        await self._in_turn(lambda: self._delete(name))

    async def _delete(self, name: str) -> None:
        gone = self._named(name)
        await self._become({key: one for key, one in self._proxies.items() if one is not gone}, ())
        gone.toxics.clear()

    async def populate(self, data: Any) -> tuple[list[Json], ToxiproxyError | None]:
        """
        Create several proxies, or replace proxies that differ. Equal ones are not changed.

        :returns: the proxies; if one of them cannot be made, none and the error.
        """
        return await self._in_turn(lambda: self._populate(data))

    async def _populate(self, data: Any) -> tuple[list[Json], ToxiproxyError | None]:
        if not isinstance(data, list):
            return [], ToxiproxyError("bad request body: expected a list of proxies", 400)
        try:
            after, enabled = await self._in_slices(self._wanted(data))
            await self._become(after, enabled)
        except ToxiproxyError as problem:
            return [], problem
        return [after[one["name"]].as_json() for one in data], None

    def _wanted(self, data: Sequence[Any]) -> Steps[tuple[dict[str, ToxicProxy], set[str]]]:
        """The proxies after a request to create several, and the names of those that it enables."""
        after = dict(self._proxies)
        enabled: set[str] = set()
        for number, one in enumerate(data, 1):
            proxy, is_enabled = self._read(one, f" at proxy {number}")
            there = after.get(proxy.name)
            if there is None or _identity(there) != _identity(proxy):
                after[proxy.name] = proxy
                (enabled.add if is_enabled else enabled.discard)(proxy.name)
            yield
        return after, enabled

    async def reset(self) -> None:
        """Enable all proxies, and remove all toxics. If one cannot be enabled, nothing is changed."""
        await self._in_turn(self._reset)

    async def _reset(self) -> None:
        await self._become(self._proxies, self._proxies.keys())
        for proxy in self._proxies.values():
            proxy.toxics.clear()
        await self._wait_until_applied()

    # Toxics

    async def add_toxic(self, name: str, data: Any) -> Json:
        """Add a toxic to a proxy."""
        proxy = self._named(name)
        (toxic,) = _add_all(proxy.toxics, [data])
        await self._wait_until_applied()
        return toxic.as_json()

    async def change_toxic(self, name: str, toxic: str, data: Any) -> Json:
        """Change the attributes or the toxicity of a toxic."""
        toxics = self._named(name).toxics
        before = self._toxic(self._named(name), toxic)
        with _bad_request():
            after = changed_toxic(before, data)
            toxics.change(after)
        await self._wait_until_applied()
        return after.as_json()

    async def remove_toxic(self, name: str, toxic: str) -> None:
        """Remove a toxic."""
        proxy = self._named(name)
        self._toxic(proxy, toxic)
        proxy.toxics.remove(toxic)
        await self._wait_until_applied()

    async def _wait_until_applied(self) -> None:
        """Wait one iteration of the reactor, in which open connections apply the change."""
        await deferLater(self._reactor, 0)

    # Rules

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        await self._turn.acquire()
        try:
            return await work()
        finally:
            self._turn.release()

    async def _become(self, after: Mapping[str, ToxicProxy], enabled: Collection[str]) -> None:
        """
        Change to the proxies `after` in one reload. If one of them cannot listen, nothing is changed.

        :param after: the proxies by name; those of `enabled` get a rule if they have none.
        """
        if len(after) > MOST_PROXIES:
            raise ToxiproxyError(f"too many proxies: there are at most {MOST_PROXIES}", 409)
        made = await self._in_slices(self._new_rules(after, enabled))
        wanted = [made.get(name, proxy.rule) for name, proxy in after.items()]
        rules = [one for one in wanted if one is not None]
        before = [one.rule for one in self._proxies.values() if one.rule is not None]
        if [id(one) for one in rules] != [id(one) for one in before]:
            result = await self._forwarder.add_rules(rules)
            if result.refused:
                raise ToxiproxyError(result.failures[0], 500)
        self._proxies = dict(after)
        addresses = self._forwarder.addresses
        for name, rule in made.items():
            proxy = self._proxies[name]
            proxy.rule = rule
            bound = addresses.get(rule.name, ())
            if bound:
                proxy.listen = evolve(proxy.listen, port=int(bound[0].rpartition(":")[2]))

    def _new_rules(self, after: Mapping[str, ToxicProxy], enabled: Collection[str]) -> Steps[dict[str, Rule]]:
        """Rules for the proxies that are to be enabled and have none."""
        own = {id(one.rule) for one in self._proxies.values()}
        taken = {rule.name for rule in self._forwarder.ruleset.rules if id(rule) not in own}
        taken |= {one.rule.name for one in after.values() if one.rule is not None}
        made = {}
        for name, proxy in after.items():
            if name in enabled and proxy.rule is None:
                rule = made[name] = _rule_of(proxy, _free_name(name, taken))
                taken.add(rule.name)
            yield
        return made

    async def _in_slices(self, steps: Steps[T]) -> T:
        return await Slices(self._reactor, steps).start()

    # Requests

    def _read(self, data: Any, which: str) -> tuple[ToxicProxy, bool]:
        fields = _object(data)
        name, upstream = (_text(fields, key, "") for key in ("name", "upstream"))
        for key, value in (("name", name), ("upstream", upstream)):
            if not value:
                raise ToxiproxyError(f"missing required field: {key}{which}", 400)
        protocol = _text(fields, "protocol", "tcp")
        if protocol not in _PROTOCOLS:
            raise ToxiproxyError("protocol was invalid, can be either tcp or udp", 400)
        listen = _address(_text(fields, "listen", "") or ":0").here
        toxics = ToxicSet(self._seed, datagrams=protocol == "udp")
        more = fields.get("toxics")
        if more is None:
            more = []
        if not isinstance(more, list):
            raise ToxiproxyError("bad request body: toxics must be a list", 400)
        _add_all(toxics, more)
        proxy = ToxicProxy(name, listen, str(_address(upstream)), protocol, toxics)
        return proxy, _switch(fields, True)


def _rule_of(proxy: ToxicProxy, name: str) -> Rule:
    """The rule of a proxy. Its parts have no places, because their text is none of a user's."""
    suffix = "/udp" if proxy.protocol == "udp" else ""
    upstream = ProxyAddress.read(proxy.upstream)
    try:
        made = ruleset_from(
            f"{proxy.listen.words}{suffix}",
            f"{upstream}{suffix}",
            filters=proxy.toxics.slots,
            name=name,
            options={"on_remove": "cut"},
        )
    except RulesError as refused:
        raise ToxiproxyError(refused.problems[0].message, 400) from None
    (rule,) = made.rules
    return evolve(
        rule,
        listen=evolve(rule.listen, where=NOWHERE),
        targets=tuple(evolve(one, where=NOWHERE) for one in rule.targets),
        filters=tuple(evolve(one, name="toxic") for one in rule.filters),
        where=Location(f"toxiproxy proxy {proxy.name!r}"),
    )


def _free_name(name: str, taken: Collection[str]) -> str:
    """The name of the rule of proxy `name`: the same if it is valid and free."""
    if name in taken or not NAME.fullmatch(name):
        name = f"toxiproxy-{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}"
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


def _identity(proxy: ToxicProxy) -> tuple[ProxyAddress, str, str]:
    return proxy.listen, proxy.upstream, proxy.protocol


@contextmanager
def _bad_request() -> Iterator[None]:
    """Translate errors of toxics to an error of the client."""
    try:
        yield
    except BadToxic as problem:
        raise ToxiproxyError(str(problem), 400) from None


def _object(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ToxiproxyError("bad request body: expected an object", 400)
    return data


def _text(fields: Mapping[str, Any], key: str, default: str) -> str:
    with _bad_request():
        return text_of(fields, key, default)


def _switch(fields: Mapping[str, Any], default: bool) -> bool:
    value = fields.get("enabled")
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ToxiproxyError("bad request body: enabled must be true or false", 400)
    return value


def _address(text: str) -> ProxyAddress:
    try:
        return ProxyAddress.read(text)
    except ValueError as problem:
        raise ToxiproxyError(f"bad request body: {problem}", 400) from None


def _add_all(toxics: ToxicSet, data: Iterable[Any]) -> list[Toxic]:
    """Add the toxics of a request, and return them."""
    added = []
    with _bad_request():
        for one in data:
            toxic = read_toxic(one)
            if toxics.get(toxic.name) is not None:
                raise ToxiproxyError("toxic already exists", 409)
            toxics.add(toxic)
            added.append(toxic)
    return added
