# -*- test-case-name: tests.filters.test_api -*-
"""
The filter contract: what a filter is asked, and what it may answer.

A filter sees the bytes of one connection and says, by what it returns, what
should become of them. It touches no socket, no clock and no thread; the relay
owns held bytes, half-close, backpressure, timers, files and accounting.

The verdicts themselves are in `portfwd.filters.answers`; this module has what is asked, and what a filter
knows of its connection. `portfwd.filters.chain.chain` gives verdicts their effect.
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
from portfwd.filters.answers import (
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
from portfwd.filters.services import Log, Services
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

#: What a factory says of `StartTLS`: the sides, and for each the options of TLS by their names in a rules
#: file: ``{Side.CLIENT: {"cert": "/etc/ssl/db.pem"}}``. File names are absolute. `check` reads the files.
StartsTLS = Mapping[Side, Mapping[str, str]]

#: The version of this contract; a plug-in says which one it was written for.
API_VERSION: Final = 1

#: Most bytes that the relay holds for a filter that does not say: what a ClientHello, an HTTP head
#: and a PROXY header together rarely reach, and what ten thousand undecided connections may cost.
MAX_HOLD: Final = 16 * 1024

#: Seconds for which a routing filter may look before the dial; also the least that the PROXY
#: specification (section 2) asks receivers to wait.
HOLD_TIMEOUT: Final = 3.0


#: What `on_timeout`, `on_overflow` and `on_error` may be.
CloseOrPass: TypeAlias = Literal["close", "pass"]
CloseOrBypass: TypeAlias = Literal["close", "bypass"]

#: Notes of one session, and characters of one that is text: what a line of a log can bear.
MOST_NOTES: Final = 32
MAX_NOTE: Final = 256
_NOTE_KEY: Final = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,31}").fullmatch

#: Whether somebody knows a secret: asked with who asks, a cheap check that may say yes, and the costly one,
#: which runs in a thread. See `Connection.verify`.
Verify = Callable[[Address | None, Callable[[], bool], Callable[[], bool]], Awaitable[bool]]


async def verify_here(source: Address | None, quick: Callable[[], bool], slow: Callable[[], bool]) -> bool:
    """Both checks at once, where they are asked for: `Verify` for tests."""
    return quick() or slow()


def nobody(token: object) -> None:
    """Nobody runs this connection, or not any more: there is nobody to be woken."""


@define(eq=False)
class Connection:
    """
    What a filter may know of the connection it looks at.

    :ivar id: the session's number in this process.
    :ivar rule: the rule's name.
    :ivar client: the address that connected; None where the kernel could not tell.
    :ivar local: the address it was accepted on.
    :ivar announced: who a PROXY header says the client is, or None.
    :ivar announced_local: where that client connected to, by the same header, or None.
    :ivar upstream: the address that was reached; None before.
    :ivar network: ``tcp``, ``unix`` or ``udp``: how the client came.
    :ivar tls: what the TLS handshake with the client said; None where there was none, or not yet.
    :ivar introduced: what the filters' `Introducing.introduction` said has been sent to this upstream.
    :ivar tags: for filters to leave word to those behind them.
    :ivar notes: what `note` was given.
    :ivar wake: calls `IFilter.woken` of the filter whose connection this is, with the token that it is given,
        soon and never from within a filter's method. For events from elsewhere, in the reactor's thread.
    :ivar verify: checks a secret without stopping other sessions:
        ``Await(connection.verify(connection.source, quick, slow))``. The relay runs `slow` in a thread, one
        check at a time for each source, later after each failure of that source. The result is a bool.
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
        Put a value into the session's line of the access log (``log access=json``), and into ``sessions``.

        A text is cut to `MAX_NOTE` characters. Of one session `MOST_NOTES` keys are kept.

        :param key: small letters, digits, ``_``, ``-`` and ``.``; a later value takes the place of an
            earlier one.
        :raises ValueError: the key cannot be one, or a number is not finite.
        :raises TypeError: the value is neither text, a number, a truth value nor None.
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
        """Whose connection it is: who was announced, else who connected."""
        return self.client if self.announced is None else self.announced

    @property
    def destination(self) -> Address | None:
        """Where that client connected to."""
        return self.local if self.announced is None else self.announced_local


@runtime_checkable
class Introducing(Protocol):
    """
    A filter that may have bytes for an upstream before the TLS handshake with it.

    The relay asks when a connection to a ``tls:`` target is there, perhaps for several in a row: the answer
    has to be the same. `IFilter.connected` comes later, with `Connection.introduced` set.
    """

    def introduction(self) -> bytes:
        """The bytes; none to let the handshake be the first."""


# Interfaces


class IFilter(Interface):
    """One connection's filter. Every method but `closed` returns a verdict."""

    def opened(connection: Connection) -> Verdict:
        """The client was accepted; no upstream is connected yet."""

    def received(direction: Direction, data: bytes) -> Verdict:
        """Bytes came, with those that are held before them; never none, but for datagrams."""

    def connected(upstream: Address | None) -> Verdict:
        """The dial succeeded. `Reply` goes to the client."""

    def dial_failed(reason: DialError) -> Verdict:
        """Every target failed; the session ends after this verdict. `Reply` goes to the client."""

    def ended(direction: Direction, held: bytes) -> Verdict:
        """The end of this direction; None forwards what was held. The end itself always travels on."""

    def resumed(result: object) -> Verdict:
        """What an `Await` brought: its result, and never an exception; see `IFailing`."""

    def woken(token: object) -> Verdict:
        """A `Wake` came due."""

    def closed(summary: SessionSummary) -> None:
        """The session is over: exactly once, with the relay's own counts and the close reason."""


class IFailing(Interface):
    """What a filter may have beside `IFilter`."""

    def failed(error: BaseException) -> Verdict:
        """
        What an `Await` waited for raised `error`.

        It judges the bytes that `IFilter.resumed` would have judged: None passes them. A filter without
        this method fails with `error`, so one that authorises lets nobody in while it cannot ask.
        """


class IFilterFactory(Interface):
    """One ``filter`` clause of a rule."""

    directions: frozenset[Direction] = Attribute("the directions it ever needs to see")
    routes: bool = Attribute(
        "the dial is held until it has decided: by `Route`, or by being done with the client's bytes"
    )
    max_hold: int = Attribute("most bytes that are held for it in one direction")
    hold_timeout: float | None = Attribute(
        "seconds for which bytes may be held for it, and an `Await` may last; None: no limit, but a routing"
        " filter has 3 to decide"
    )
    on_timeout: str = Attribute(
        "where it could not decide in time: 'close', or 'pass' to the rule's own target"
    )
    on_error: str = Attribute(
        "where it raises, or what it awaits does: 'close' (the session is aborted), or 'bypass' as long as it"
        " has altered nothing"
    )

    def build(connection: Connection) -> Any:
        """An `IFilter` for `connection`, or None to stay out of it."""


class IStarting(Interface):
    """What a factory may have beside `IFilterFactory`: either method, or both."""

    def start(services: Services) -> None:
        """
        The rules are about to work; called once, before the first `build`.

        What it raises refuses the rules: the process does not start, or a reload changes nothing.
        """

    def stop() -> None:
        """Called once if `start` was, behind the `IFilter.closed` of the last session."""


class IFilterPlugin(Interface):
    """What an entry point of the group ``portfwd.filters`` names."""

    api_version: int = Attribute("the `API_VERSION` it was written for")
    name: str = Attribute("what rules files call it")
    options: type = Attribute("an attrs class: the clause's options, see `portfwd.filters.options`")
    takes_routes: bool = Attribute("whether it chooses by the rule's `route` lines")

    def configure(options: Any, clauses: Sequence[RouteClause]) -> Any:
        """
        An `IFilterFactory` for one clause.

        :raises ValueError: the options do not go together; the text says why.
        """


@frozen
class RouteClause:
    """
    One ``route`` line of a rule, as its routing filter gets it.

    :ivar patterns: as written; the first line with one that matches decides.
    :ivar target: for `Route`; opaque. None: close the session.
    """

    patterns: tuple[str, ...]
    target: object


BOTH: Final = frozenset(Direction)


@implementer(IFilter)
class Filter:
    """
    The base class for authors: passes everything, and is its own factory.

    A subclass overrides what it cares for. As its own factory it is built anew for every
    connection, with the clause's options as keyword arguments; see `portfwd.filters.options`.
    """

    directions: ClassVar[frozenset[Direction]] = BOTH
    routes: ClassVar[bool] = False
    max_hold: ClassVar[int] = MAX_HOLD
    hold_timeout: ClassVar[float | None] = None
    on_timeout: ClassVar[CloseOrPass] = "close"
    on_error: ClassVar[CloseOrBypass] = "close"
    on_overflow: ClassVar[CloseOrPass] = "close"
    announces: ClassVar[bool] = False
    # Of an instance where an option names the certificate.
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
    The base class for factories with a life of their own: a cache, metrics, a connection to somewhere.

    A subclass overrides `build`, and of the attributes and of `start` and `stop` what it needs.
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
    A factory out of a function: what most plug-ins' `configure` returns.

    :ivar make: a filter for a connection, or None to stay out of it.
    :ivar hold_timeout: seconds for which bytes may be held and an `Await` may last, then `on_timeout`
        decides; None: no limit, but `HOLD_TIMEOUT` while the dial waits.
    :ivar on_overflow: where more than `max_hold` is to be held: ``close``, or ``pass``: what is held passes,
        and the filter is done with that direction.
    :ivar announces: it may `Announce` the client before the dial, which waits for that, as limits of each
        source do; filters behind it are built and opened afterwards.
    :ivar leads: what it writes has to be the first that the upstream gets: a rule in which it stands before a
        filter that routes, so before the one that holds the client's first bytes, is refused.
    :ivar start: called once before the first connection, see `IStarting.start`; None: nothing to do.
    :ivar starts_tls: it may return `StartTLS` for these sides, see `StartsTLS`.
    :ivar stop: called once behind the last one, see `IStarting.stop`.
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
    A plug-in out of its parts.

    :ivar name: what rules files call it.
    :ivar summary: one line of help.
    :ivar options: an attrs class, see `portfwd.filters.options`.
    :ivar make_factory: an `IFilterFactory` from an instance of `options` and the rule's route lines.
    :ivar takes_routes: it chooses by those lines; a rule that has some must have such a filter.
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
