# -*- test-case-name: tests.filters.test_routes -*-
"""
Compiles the ``route`` lines of a rule and finds the line for a connection.

A routing filter provides keys, such as the name that a client asks for or its protocol. A pattern is a key or
a glob: ``*`` matches any run of characters, including dots, and ``?`` matches one. The first line with a
matching pattern decides, regardless of length and exactness. Case is ignored. Filters may restrict the
patterns.

`NameRouter` is the common part of filters that route by a name in the client's first bytes.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Final

from portfwd.filters.api import DONE, Close, Connection, Factory, Filter, Route, RouteClause, Verdict
from portfwd.values import TO_UPSTREAM, ascii_host, printable

#: Most characters of a pattern, more than any DNS name has.
MAX_PATTERN: Final = 260

_HOST_PATTERN: Final = re.compile(r"[A-Za-z0-9_.*?-]+")
#: Characters of IPv6 addresses. A pattern without a star is parsed as an address.
_ADDRESS_GLOB: Final = re.compile(r"(?=.*[*?])[0-9A-Fa-f:*?]*:[0-9A-Fa-f:*?]*")


class Routes:
    """
    A rule's route lines.

    Exact patterns are in a table, so a thousand names cost as much as one. Globs are tried one after the
    other.
    """

    __slots__ = ("_clauses", "_exact", "_globs")

    def __init__(self, clauses: Sequence[RouteClause], check: Callable[[str], str]) -> None:
        """
        Compile.

        :param check: normalises a pattern to the form of keys, in lower case.
        :raises ValueError: `check` refused a pattern.
        """
        self._clauses = tuple(clauses)
        self._exact: dict[str, int] = {}
        self._globs: list[tuple[int, re.Pattern[str]]] = []
        for index, clause in enumerate(self._clauses):
            for written in clause.patterns:
                if not written or len(written) > MAX_PATTERN:
                    raise ValueError(f"a route pattern has 1 to {MAX_PATTERN} characters")
                pattern = check(written)
                if "*" in pattern or "?" in pattern:
                    self._globs.append((index, re.compile(fnmatch.translate(pattern.replace("[", "[[]")))))
                else:
                    self._exact.setdefault(pattern, index)

    def find(self, keys: Sequence[str]) -> RouteClause | None:
        """
        Find the line for a connection.

        :param keys: in lower case. An empty key matches no pattern.
        """
        found = [self._exact[key] for key in keys if key in self._exact]
        best = min(found, default=len(self._clauses))
        for index, glob in self._globs:
            if index >= best:
                break
            if any(key and glob.match(key) for key in keys):
                best = index
        return self._clauses[best] if best < len(self._clauses) else None

    def decide(self, keys: Sequence[str], refusal: bytes = b"") -> Verdict:
        """
        The verdict for a connection. If no line matches, it is forwarded to the target of the rule.

        :param refusal: reply to the client if the line says ``close``.
        """
        clause = self.find(keys)
        if clause is None:
            return DONE
        if clause.target is None:
            return Close("a route says close", reply=refusal)
        return [Route(clause.target), DONE]

    def __repr__(self) -> str:
        return f"<Routes: {len(self._clauses)} lines, {len(self._exact)} names, {len(self._globs)} globs>"


class NameRouter(Filter):
    """Routes a connection by the name in the client's first bytes. A subclass finds the name."""

    def __init__(self, routes: Routes, *, otherwise: str = "close") -> None:
        """:param otherwise: what to do without a name: ``close`` or ``pass``."""
        self._routes = routes
        self._pass = otherwise == "pass"
        self._connection: Connection | None = None

    @classmethod
    def factory(cls, routes: Routes, otherwise: str, timeout: float, max_hold: int) -> Factory:
        """
        Make the factory of a clause.

        The name must arrive within `max_hold` bytes and `timeout` seconds.
        """
        return Factory(
            lambda connection: cls(routes, otherwise=otherwise),
            directions=frozenset({TO_UPSTREAM}),
            routes=True,
            max_hold=max_hold,
            hold_timeout=timeout,
        )

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        self._connection = connection
        return None

    def _otherwise(self, reason: str, refusal: bytes = b"") -> Verdict:
        """The verdict for a client without a name."""
        return DONE if self._pass else Close(reason, reply=refusal)


def check_host(pattern: str) -> str:
    """
    Normalise a pattern for host names, or for IP addresses without brackets.

    Letters outside of ASCII are converted to their ``xn--`` form (IDNA 2008).

    :raises ValueError: no host can match it.
    """
    # A label with a star and letters outside of ASCII has no xn-- form.
    pattern = ascii_host(pattern)
    if _HOST_PATTERN.fullmatch(pattern) and pattern.strip("."):
        return pattern.lower().removesuffix(".")
    if _ADDRESS_GLOB.fullmatch(pattern):
        return pattern.lower()
    try:
        return str(ipaddress.IPv6Address(pattern))
    except ValueError:
        raise ValueError(
            f"route pattern '{printable(pattern)}' can match no host: write git.example.com or "
            "*.example.com without a port"
        ) from None
