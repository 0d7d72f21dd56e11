# -*- test-case-name: tests.filters.test_api -*-
"""
The filter contract: the methods of filters and factories, and the connection that they see.

A filter sees the bytes of one connection and returns what to do with them. It uses no socket, clock or
thread. The relay is responsible for held bytes, half-close, backpressure, timers, files and accounting.

`portfwd.filters.verdict_kinds` has the verdicts that a filter returns; `portfwd.filters.chain.chain` applies
them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import isfinite
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, Protocol, TypeAlias, runtime_checkable

from attrs import define, field, frozen
from zope.interface import Attribute, Interface, implementer

from portfwd.errors import DialError
from portfwd.filters.services import Log, Services
from portfwd.filters.verdict_kinds import (
    DONE,
    DROP,
    NEED_MORE,
    Again,
    Announce,
    Await,
    Bypass,
    Close,
    Copy,
    Delay,
    End,
    Forward,
    NeedMore,
    Release,
    Reply,
    Route,
    Sign,
    Sink,
    StartTLS,
    Verdict,
    Wake,
)
from portfwd.values import Address, Direction, Note, SessionSummary, Side, TLSInfo

__all__ = [
    "API_VERSION",
    "BOTH",
    "DONE",
    "DROP",
    "HOLD_TIMEOUT",
    "MAX_HOLD",
    "NEED_MORE",
    "Again",
    "Announce",
    "Await",
    "Bypass",
    "Close",
    "Connection",
    "Copy",
    "Delay",
    "End",
    "Factory",
    "Filter",
    "FilterFactory",
    "Forward",
    "IFailing",
    "IFilter",
    "IFilterFactory",
    "IFilterPlugin",
    "IStarting",
    "Introducing",
    "Log",
    "NeedMore",
    "Plugin",
    "Release",
    "Reply",
    "Route",
    "RouteClause",
    "Services",
    "Sign",
    "Sink",
    "StartTLS",
    "StartsTLS",
    "Verdict",
    "Verify",
    "Wake",
    "verify_here",
]

#: The sides on which a factory's filters may return `StartTLS`, each with its TLS options by their names in a
#: rules file: ``{Side.CLIENT: {"cert": "/etc/ssl/db.pem"}}``. File names are absolute. `check` reads the
#: files.
StartsTLS = Mapping[Side, Mapping[str, str]]

#: The version of this contract. A plug-in states the version that it was written for.
API_VERSION: Final = 1

#: The default of ``max_hold``, in bytes. A ClientHello, an HTTP head and a PROXY header together are rarely
#: longer, and ten thousand undecided connections cannot take more than 160 MiB.
MAX_HOLD: Final = 16 * 1024

#: Seconds that a routing filter has to decide before the dial, if its ``hold_timeout`` is None. The PROXY
#: specification (section 2) asks receivers to wait at least as long.
HOLD_TIMEOUT: Final = 3.0


#: The values of ``on_timeout`` and ``on_overflow``.
CloseOrPass: TypeAlias = Literal["close", "pass"]
#: The values of ``on_error``.
CloseOrBypass: TypeAlias = Literal["close", "bypass"]

#: Most notes of one session, and most characters of a text, so log lines stay short.
MOST_NOTES: Final = 32
MAX_NOTE: Final = 256
_NOTE_KEY: Final = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,31}").fullmatch

#: Checks a secret: called with the source of the client, a quick check that may succeed at once, and the slow
#: check, which runs in a thread. See `Connection.verify`.
Verify = Callable[[Address | None, Callable[[], bool], Callable[[], bool]], Awaitable[bool]]


async def verify_here(source: Address | None, quick: Callable[[], bool], slow: Callable[[], bool]) -> bool:
    """Run both checks at once in the calling thread: `Verify` for tests."""
    return quick() or slow()


def nobody(token: object) -> None:
    """Do nothing, because no relay runs this connection (any more)."""


@define(eq=False)
class Connection:
    """
    What a filter knows about its connection.

    :ivar id: the session's number in this process.
    :ivar rule: the rule's name.
    :ivar log: the log for events of this session.
    :ivar client: the address of the client; None if the kernel does not know it.
    :ivar local: the address on which the client was accepted.
    :ivar announced: the client's address according to a PROXY header, or None.
    :ivar announced_local: the address that this client connected to, according to the same header, or None.
    :ivar upstream: the address that was reached; None before.
    :ivar network: how the client came: ``tcp``, ``unix`` or ``udp``.
    :ivar tls: the TLS handshake with the client; None if there was none so far.
    :ivar introduced: whether the bytes of `Introducing.introduction` have been sent to this upstream.
    :ivar tags: values that a filter leaves for the filters behind it.
    :ivar notes: the notes that were added by `note`.
    :ivar wake: ``wake(token)`` makes the relay call `IFilter.woken` with the token, soon, and never from
        within a filter's method. It is for events from outside the session. Call it in the reactor's thread.
    :ivar verify: checks a secret without blocking other sessions:
        ``Await(connection.verify(connection.source, quick, slow))``. The relay runs `slow` in a thread. It
        makes one check at a time for each source, and waits longer after each failure. The result is a bool.
    """

    id: int
    rule: str
    log: Log
    client: Address | None = None
    local: Address | None = None
    announced: Address | None = None
    announced_local: Address | None = None
    upstream: Address | None = None
    network: Literal["tcp", "unix", "udp"] = "tcp"
    tls: TLSInfo | None = None
    introduced: bool = False
    tags: dict[str, object] = field(factory=dict)
    notes: dict[str, Note] = field(factory=dict)
    verify: Verify = field(default=verify_here, repr=False)
    wake: Callable[[object], None] = field(default=nobody, repr=False)

    def note(self, key: str, value: Note) -> None:
        """
        Add a value to the session's line of the access log (``log access=json``) and to ``portfwd sessions``.

        A text is cut to 256 characters. A session has at most 32 keys; further keys are ignored.

        :param key: 1 to 32 small letters, digits, ``_``, ``-`` and ``.``. A later value replaces an earlier
            one.
        :raises ValueError: the key is not valid, or a number is not finite.
        :raises TypeError: the value is not a text, a number, a truth value or None.
        """
        if not isinstance(key, str) or not _NOTE_KEY(key):
            raise ValueError("the key of a note has at most 32 small letters, digits, '_', '-' and '.'")
        if isinstance(value, str):
            value = value[:MAX_NOTE]
        elif isinstance(value, float):
            if not isfinite(value):
                raise ValueError(f"the note {key} is no finite number")
        elif value is not None and not isinstance(value, int):
            raise TypeError(f"the note {key} must be text, a number, True, False or None")
        if key in self.notes or len(self.notes) < MOST_NOTES:
            self.notes[key] = value

    @property
    def source(self) -> Address | None:
        """The client's address: the announced one, or the one that connected."""
        return self.client if self.announced is None else self.announced

    @property
    def destination(self) -> Address | None:
        """The address that this client connected to."""
        return self.local if self.announced is None else self.announced_local


@runtime_checkable
class Introducing(Protocol):
    """
    A filter that may send bytes to an upstream before the TLS handshake.

    The relay calls `introduction` when a connection to a ``tls:`` target is established, perhaps for several
    ones in a row; the result must be the same each time. It calls `IFilter.connected` later, with
    `Connection.introduced` set.
    """

    def introduction(self) -> bytes:
        """The bytes to send first; empty for none."""


# Interfaces


class IFilter(Interface):
    """The filter of one connection. Every method except `closed` returns a verdict."""

    def opened(connection: Connection) -> Verdict:
        """A client was accepted; no upstream is connected yet."""

    def received(direction: Direction, data: bytes) -> Verdict:
        """Bytes arrived; `data` begins with the held bytes. It is never empty, except for datagrams."""

    def connected(upstream: Address | None) -> Verdict:
        """The dial succeeded. A `Reply` goes to the client."""

    def dial_failed(reason: DialError) -> Verdict:
        """All targets failed; the session ends after this verdict. A `Reply` goes to the client."""

    def ended(direction: Direction, held: bytes) -> Verdict:
        """The source ended this direction; None passes the held bytes. The end is always passed on."""

    def resumed(result: object) -> Verdict:
        """An `Await` has a result. For an exception, see `IFailing`."""

    def woken(token: object) -> Verdict:
        """The time of a `Wake` has come, or `Connection.wake` was called."""

    def closed(summary: SessionSummary) -> None:
        """The session is over. It is called exactly once, with the relay's counts and the close reason."""


class IFailing(Interface):
    """An optional method of filters, besides those of `IFilter`."""

    def failed(error: BaseException) -> Verdict:
        """
        The awaitable of an `Await` raised `error`.

        The verdict is about the bytes that `IFilter.resumed` would have judged: None passes them. A filter
        without this method fails with `error`, so a filter that authorises clients refuses them by default.
        """


class IFilterFactory(Interface):
    """One ``filter`` clause of a rule."""

    directions: frozenset[Direction] = Attribute("the directions that the filter needs to see")
    routes: bool = Attribute(
        "whether the dial waits until the filter has decided, by `Route` or by being done with the client's"
        " bytes"
    )
    max_hold: int = Attribute("the maximum of bytes that are held for the filter in one direction")
    hold_timeout: float | None = Attribute(
        "seconds for which bytes may be held for the filter, and for which an `Await` may last. None: no"
        " limit, except 3 seconds for a filter that routes"
    )
    on_timeout: str = Attribute(
        "what happens when it has not decided in time: 'close', or 'pass' to the rule's own target"
    )
    on_error: str = Attribute(
        "what happens when it raises an exception, or its awaitable does: 'close' resets the session;"
        " 'bypass' continues without the filter if it has altered nothing so far"
    )

    def build(connection: Connection) -> Any:
        """Make an `IFilter` for `connection`; None: this connection has no filter."""


class IStarting(Interface):
    """Optional methods of factories, besides those of `IFilterFactory`: one of them, or both."""

    def start(services: Services) -> None:
        """
        Prepare. It is called once, before the first `build`.

        If it raises an exception, the rules are refused: the process does not start, or a reload changes
        nothing.
        """

    def stop() -> None:
        """Clean up. It is called once if `start` was, after `IFilter.closed` of the last session."""


class IFilterPlugin(Interface):
    """A plug-in: the object that an entry point of the group ``portfwd.filters`` names."""

    api_version: int = Attribute("the `API_VERSION` for which it was written")
    name: str = Attribute("its name in rules files")
    options: type = Attribute("an attrs class with the options of a clause, see `portfwd.filters.options`")
    takes_routes: bool = Attribute("whether it uses the `route` lines of a rule")

    def configure(options: Any, clauses: Sequence[RouteClause]) -> Any:
        """
        Make an `IFilterFactory` for one clause.

        :raises ValueError: the options do not fit together; the text says why.
        """


@frozen
class RouteClause:
    """
    One ``route`` line of a rule.

    :ivar patterns: the patterns as they are written. The first line with a pattern that matches decides.
    :ivar target: an opaque value for `Route`. None: close the session.
    """

    patterns: tuple[str, ...]
    target: object


#: Both directions, the default of ``directions``.
BOTH: Final = frozenset(Direction)


@implementer(IFilter)
class Filter:
    """
    The base class of filters. It passes everything.

    A subclass overrides the methods that it needs. The class is also its own factory: portfwd makes an
    instance for each connection, with the options of the clause as keyword arguments; see
    `portfwd.filters.options`. The attributes are those of `IFilterFactory`.
    """

    directions: ClassVar[frozenset[Direction]] = BOTH
    routes: ClassVar[bool] = False
    max_hold: ClassVar[int] = MAX_HOLD
    hold_timeout: ClassVar[float | None] = None
    on_timeout: ClassVar[CloseOrPass] = "close"
    on_error: ClassVar[CloseOrBypass] = "close"
    on_overflow: ClassVar[CloseOrPass] = "close"
    announces: ClassVar[bool] = False
    # An attribute of the instance if an option names the certificate.
    starts_tls: StartsTLS = MappingProxyType({})

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        return None

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        return DONE

    def connected(self, upstream: Address | None) -> Verdict:
        """See `IFilter`."""
        return None

    def dial_failed(self, reason: DialError) -> Verdict:
        """See `IFilter`."""
        return None

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        return None

    def resumed(self, result: object) -> Verdict:
        """See `IFilter`."""
        return None

    def woken(self, token: object) -> Verdict:
        """See `IFilter`."""
        return None

    def closed(self, summary: SessionSummary) -> None:
        """See `IFilter`."""


@implementer(IFilterFactory, IStarting)
class FilterFactory:
    """
    The base class of factories that keep something: a cache, metrics, a connection to a service.

    A subclass overrides `build`, and those of the attributes, `start` and `stop` that it needs. The
    attributes are those of `IFilterFactory`.
    """

    directions: frozenset[Direction] = BOTH
    routes: bool = False
    max_hold: int = MAX_HOLD
    hold_timeout: float | None = None
    on_timeout: CloseOrPass = "close"
    on_error: CloseOrBypass = "close"
    on_overflow: CloseOrPass = "close"
    announces: bool = False
    starts_tls: StartsTLS = MappingProxyType({})

    def start(self, services: Services) -> None:
        """See `IStarting`."""

    def stop(self) -> None:
        """See `IStarting`."""

    def build(self, connection: Connection) -> Any:
        """See `IFilterFactory`."""
        raise NotImplementedError(f"{type(self).__name__} has no method build")


@implementer(IFilterFactory)
@frozen
class Factory:
    """
    A factory that calls a function. Most plug-ins return one from `IFilterPlugin.configure`.

    :ivar make: makes the filter of a connection; None: this connection has no filter.
    :ivar directions: as in `IFilterFactory`, and so are ``routes``, ``max_hold``, ``on_timeout`` and
        ``on_error``.
    :ivar hold_timeout: seconds for which bytes may be held and an `Await` may last, before `on_timeout`
        decides. None: no limit, except `HOLD_TIMEOUT` while the dial waits.
    :ivar announces: whether the filter may return `Announce` before the dial. The dial and the limits of each
        source wait for it, and the filters behind it are built and opened afterwards.
    :ivar leads: whether its bytes must be the first that the upstream gets. A rule in which it stands before
        a filter that routes is refused.
    :ivar on_overflow: what happens when more than `max_hold` bytes would be held: ``close``; ``pass`` passes
        the held bytes, and the filter is done with that direction.
    :ivar start: called once before the first connection, see `IStarting.start`.
    :ivar stop: called once after the last connection, see `IStarting.stop`.
    :ivar starts_tls: the sides for which the filter may return `StartTLS`, each with options of TLS.
    """

    make: Callable[[Connection], Any]
    directions: frozenset[Direction] = BOTH
    routes: bool = False
    max_hold: int = MAX_HOLD
    hold_timeout: float | None = None
    on_timeout: CloseOrPass = "close"
    on_error: CloseOrBypass = "close"
    announces: bool = False
    leads: bool = False
    on_overflow: CloseOrPass = "close"
    start: Callable[[Services], None] | None = None
    stop: Callable[[], None] | None = None
    starts_tls: StartsTLS = MappingProxyType({})

    def build(self, connection: Connection) -> Any:
        """See `IFilterFactory`."""
        return self.make(connection)


@implementer(IFilterPlugin)
@frozen
class Plugin:
    """
    A plug-in made from its parts.

    :ivar name: its name in rules files.
    :ivar summary: one line of help.
    :ivar options: an attrs class, see `portfwd.filters.options`.
    :ivar make_factory: makes an `IFilterFactory` from an instance of `options` and the rule's ``route``
        lines.
    :ivar api_version: the `API_VERSION` for which it was written.
    :ivar takes_routes: whether it uses those lines. A rule with ``route`` lines must have such a filter.
    """

    name: str
    summary: str
    options: type
    make_factory: Callable[[Any, Sequence[RouteClause]], Any]
    api_version: int = API_VERSION
    takes_routes: bool = False

    def configure(self, options: Any, clauses: Sequence[RouteClause]) -> Any:
        """See `IFilterPlugin`."""
        return self.make_factory(options, clauses)
