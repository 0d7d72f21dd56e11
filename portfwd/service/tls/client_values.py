# -*- test-case-name: tests.service.tls.test_client_values -*-
"""
Warnings about options and routes that use the handshake of a client, in rules that do not know it.

``server-name=client`` and ``alpn=client`` of targets take what was agreed on with the client. A rule knows
this behind a ``tls:`` listener, and if a filter starts TLS with clients. ``filter sni`` reads a ClientHello,
but passes the TLS of the client through, so there is nothing to take. The routes ``alpn:…`` of a ``tls:``
listener are for protocols that the listener agrees on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from portfwd.errors import Location, Problem, Severity
from portfwd.rules.findings import shown
from portfwd.rules.model import TLS_KINDS, ListenOptions, Options, Rule
from portfwd.rules.options import BY_NAME
from portfwd.service.build.target_texts import listener_options
from portfwd.service.tls.targets import CLIENT
from portfwd.values import Side

_CODE: Final = "option-without-effect"
_ALPN: Final = "alpn:"


def client_value_problems(rule: Rule, filters: Sequence[tuple[str, Any]]) -> Iterator[Problem]:
    """The warnings for `rule`; `filters` are name and factory of each of its filters."""
    knows = list(_handshakes(rule, filters))
    if not knows:
        yield from _warnings(
            rule,
            "server-name",
            lambda options: options.server_name == CLIENT,
            "no client asks for a name, because the rule does no TLS with clients",
            "delete it, or write tls: before the address of the listener",
        )
    if not any(options.alpn for options in knows):
        yield from _warnings(
            rule,
            "target-alpn",
            lambda options: options.target_alpn == (CLIENT,),
            "no protocol is agreed on with clients, because the listener has no alpn=",
            "delete it, or write alpn= before '->' too",
        )
    if rule.listen.kind in TLS_KINDS and any(name == "sni" for name, _ in filters):
        yield from _routes(rule)


def _handshakes(rule: Rule, filters: Sequence[tuple[str, Any]]) -> Iterator[ListenOptions]:
    """The options of each handshake with clients that the rule does."""
    if rule.listen.kind in TLS_KINDS:
        yield rule.listen.options
    for _, factory in filters:
        starts: Mapping[Side, Mapping[str, str]] = getattr(factory, "starts_tls", {})
        if Side.CLIENT in starts:
            yield listener_options(starts[Side.CLIENT])


def _warnings(
    rule: Rule, name: str, takes: Callable[[Options], bool], why: str, hint: str
) -> Iterator[Problem]:
    """A warning for each place where an option, by its unique `name`, takes what is not known."""
    own = takes(rule.options)
    for target in rule.every_target():
        if target.kind in TLS_KINDS and takes(target.options):
            where = dict(rule.places).get(name) if own else target.where
            if where is None or (own and not _is_own(rule, where)):
                return  # a `default` line is for other rules too
            text = f"{BY_NAME[name].key}=client has no effect here: {why}"
            yield Problem(where, _CODE, text, hint, Severity.WARNING)
            if own:
                return


def _is_own(rule: Rule, where: Location) -> bool:
    """Whether an option stands in the rule itself; ``default`` lines are above it."""
    line = rule.where
    return where.file == line.file and (where.line, where.column) >= (line.line, line.column)


def _routes(rule: Rule) -> Iterator[Problem]:
    """A warning for each protocol of a ``route`` line that the listener does not agree on."""
    agreed = [protocol.lower() for protocol in rule.listen.options.alpn]
    for route in rule.routes:
        places = route.pattern_places or (route.where,) * len(route.patterns)
        for pattern, where in zip(route.patterns, places, strict=True):
            begin, protocol = pattern[: len(_ALPN)].lower(), pattern[len(_ALPN) :]
            if begin == _ALPN and not any(fnmatchcase(one, protocol.lower()) for one in agreed):
                why = "no such protocol in alpn=" if agreed else "no alpn="
                yield Problem(
                    where,
                    _CODE,
                    f"{shown(pattern)} matches no client: the listener has {why}",
                    f"write alpn={protocol} before '->', or delete the pattern",
                    Severity.WARNING,
                )
