# -*- test-case-name: tests.filters.test_routes -*-
"""
The ``route`` lines of a rule, compiled: which of them is for a connection with these keys.

A routing filter offers keys: the name that a client asks for, the protocol it
speaks. A pattern is a key, or a glob of it: ``*`` is any run of characters, dots too, and
``?`` is one. The first line with a pattern that matches any key decides, however long
or exact it is; large and small letters are the same. What patterns may look like is the filter's to say.

`NameRouter` is what the filters have in common that choose by a name which the client says first.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Final

from portfwd.filters.api import DONE, Close, Connection, Factory, Filter, Route, RouteClause, Verdict
from portfwd.values import TO_UPSTREAM, ascii_host, printable

#: Longer than any name of DNS.
MAX_PATTERN: Final = 260

_HOST_PATTERN: Final = re.compile(r"[A-Za-z0-9_.*?-]+")
#: Of IPv6 addresses; one without a star is an address and read as such.
_ADDRESS_GLOB: Final = re.compile(r"(?=.*[*?])[0-9A-Fa-f:*?]*:[0-9A-Fa-f:*?]*")


class Routes:
    """
    A rule's route lines.

    Exact patterns stand in a table, so a thousand names cost as much as one; globs are tried one by one.
    """

    __slots__ = ("_clauses", "_exact", "_globs")

    def __init__(self, clauses: Sequence[RouteClause], check: Callable[[str], str]) -> None:
        """
        Compile.

        :param check: returns a pattern, in small letters, as keys are written.
        :raises ValueError: what `check` says of a pattern.
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

        :param keys: in small letters; an empty one is matched by nothing.
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
        Say what becomes of a connection; without a line for it, it goes to the rule's own target.

        :param refusal: for the client, where the line says ``close``.
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
    """Routes one connection by the name that its client asks for first; what that is, is the subclass'."""

    def __init__(self, routes: Routes, *, otherwise: str = "close") -> None:
        """Route, and do with what cannot be routed what `otherwise` says: ``close`` or ``pass``."""
        self._routes = routes
        self._pass = otherwise == "pass"
        self._connection: Connection | None = None

    @classmethod
    def factory(cls, routes: Routes, otherwise: str, timeout: float, max_hold: int) -> Factory:
        """The factory of one clause: `max_hold` bytes and `timeout` seconds for what names the host."""
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
        """What becomes of a client that cannot be routed."""
        return DONE if self._pass else Close(reason, reply=refusal)


def check_host(pattern: str) -> str:
    """
    Read a pattern for names of hosts, or for IP addresses, which are written without brackets.

    Letters beyond ASCII are compared in their ``xn--`` form (IDNA 2008).

    :raises ValueError: no host can match it.
    """
    # A label with other letters and a star has no xn-- form, so no name of DNS can be compared with it.
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
