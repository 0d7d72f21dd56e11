# -*- test-case-name: tests.filters.test_api -*-
"""
The filter contract: what a filter is asked, and what it may answer.

A filter sees the bytes of one connection and says, by what it returns, what
should become of them. It touches no socket, no clock and no thread; the relay
owns held bytes, half-close, backpressure, timers, files and accounting.

A *verdict* is one of:

=========================  ============================================================================
``None``                   pass the bytes unchanged
``bytes``                  pass these instead; ``b""`` drops
`NEED_MORE`, `NeedMore`    keep the bytes, and call again with them and the next
`DONE`                     pass the bytes and never call again in this direction
`Bypass`                   pass `data`, then so many bytes unseen
`Forward`, `Reply`         onward; back to the side they came from
`Delay`                    onward, later, in order
`Copy`                     hand a copy to a sink of the relay
`Route`                    dial this instead of the rule's target; before the dial only
`Announce`                 the connection is this client's from here on
`Wake`, `Await`            call `woken` later; pause reading until a result is there
`Close`                    flush and close, or reset
`DROP`                     for datagrams: forget this one (there ``b""`` is an empty datagram)
a list or tuple of these   in order
=========================  ============================================================================

The bytes that a filter was called with are used up by a verdict that speaks of bytes: `bytes`,
`Forward`, `Reply`, `Delay` with data, `NeedMore`, `Bypass`, `DROP`, `Close`. Otherwise they pass: at the
place of a ``None`` in a list, else behind the list; so ``[Reply(b"hello"), None]`` greets and passes,
``[Reply(b"no"), b""]`` answers and drops. An `Await` alone keeps them, and they are what `resumed` then
judges; `woken` judges none.

This module has the words; `portfwd.filters.chain` gives them their effect.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final, Protocol

from attrs import define, field, frozen
from zope.interface import Attribute, Interface, implementer

from portfwd.errors import DialError
from portfwd.values import Address, Direction, SessionSummary, TLSInfo

#: The version of this contract; a plug-in says which one it was written for.
API_VERSION: Final = 1

#: Most bytes that the relay holds for a filter that does not say: what a ClientHello, an HTTP head
#: and a PROXY header together rarely reach, and what ten thousand undecided connections may cost.
MAX_HOLD: Final = 16 * 1024

#: Seconds for which a routing filter may look before the dial; also the least that the PROXY
#: specification (section 2) asks receivers to wait.
HOLD_TIMEOUT: Final = 3.0


class Log(Protocol):
    """
    Where a filter writes events; what it is told must not hold bytes of users.

    The relay adds the values ``rule`` and ``session``: a filter names none of its own so.
    """

    def info(self, text: str, **values: object) -> None:
        """Something worth knowing; `text` is a format of `values`."""

    def warn(self, text: str, **values: object) -> None:
        """Something an operator should look at."""


#: Whether somebody knows a secret: asked with who asks, a cheap check that may say yes, and the costly one,
#: which runs in a thread. See `Connection.verify`.
Verify = Callable[[Address | None, Callable[[], bool], Callable[[], bool]], Awaitable[bool]]


async def verify_here(source: Address | None, quick: Callable[[], bool], slow: Callable[[], bool]) -> bool:
    """Both checks at once, where they are asked for: `Verify` for tests."""
    return quick() or slow()


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
    :ivar tls: None where the client did not speak TLS to us.
    :ivar tags: for filters to leave word to those behind them.
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
    network: str = "tcp"
    tls: TLSInfo | None = None
    tags: dict[str, object] = field(factory=dict)
    verify: Verify = field(default=verify_here, repr=False)

    @property
    def source(self) -> Address | None:
        """Whose connection it is: who was announced, else who connected."""
        return self.client if self.announced is None else self.announced

    @property
    def destination(self) -> Address | None:
        """Where that client connected to."""
        return self.local if self.announced is None else self.announced_local


# Verdicts


class Sign(enum.Enum):
    """Verdicts that have no more to say than their name."""

    # Members are single objects: their identity hashes faster than their name.
    __hash__ = object.__hash__

    DONE = "done"
    DROP = "drop"

    def __repr__(self) -> str:
        return self.name


DONE: Final = Sign.DONE
DROP: Final = Sign.DROP


@frozen
class NeedMore:
    """
    Keep bytes, and call again with them and the next.

    :ivar total: how many bytes are needed in all, if that is known; fewer are not shown.
    :ivar rest: keep only these, the tail of what was seen; what is before it must have been
        passed by verdicts before this one. None: keep everything.
    """

    total: int | None = None
    rest: bytes | None = None


NEED_MORE: Final = NeedMore()


@frozen
class Bypass:
    """
    Pass `data`, then `count` bytes of this direction unseen.

    :ivar data: None: the bytes that the filter was called with. If `data` is given, these bytes
        are used up: `count` begins behind them.
    """

    count: int
    data: bytes | None = None


@frozen
class Forward:
    """Pass `data` onward."""

    data: bytes


@frozen
class Reply:
    """Send `data` back to the side whose bytes the filter looks at."""

    data: bytes


@frozen
class Delay:
    """
    Pass `data` onward `seconds` later; what comes behind it waits, and so does an end.

    From `IFilter.ended` with no data it delays the end itself.
    """

    seconds: float
    data: bytes = b""


@frozen
class Sink:
    """
    Where copies go; the relay opens, bounds and closes it.

    Sinks of one kind, name and, for streams, session are one and the same, whatever else they say.

    :ivar kind: ``file``, ``record`` (a file with the times, see `portfwd.logs.recording`) or
        ``stream`` (a shadow upstream).
    :ivar name: the file's absolute path, or the shadow's address as text.
    :ivar limit: bytes that may wait for a stream, or that a file may reach.
    :ivar address: where a stream goes.
    :ivar direction: the way of the bytes, for a record.
    :ivar mark: ``opened`` or ``ended``: a record notes this instead of bytes.
    :ivar notes: what a record says of a session that was opened.
    """

    kind: str
    name: str
    limit: int
    address: Address | None = None
    direction: Direction | None = None
    mark: str = ""
    notes: tuple[tuple[str, str], ...] = ()


@frozen
class Copy:
    """Hand `data` to `sink`; never waited for: what does not fit is dropped and counted."""

    sink: Sink
    data: bytes


@frozen
class Route:
    """
    Dial `target` instead of the rule's; before the dial only.

    :ivar target: an address, or the target of one of the rule's `RouteClause`s; None: the rule's own.
    :ivar permits: asked for every address before it is dialled, the resolver's too; one that is
        refused is as if it did not exist. None permits all.
    """

    target: object = None
    permits: Callable[[Address], bool] | None = None


@frozen
class Announce:
    """
    The connection is `client`'s from here on: access lists, limits and logs judge it anew.

    :ivar local: where that client connected to.
    :ivar tlvs: type and value of each TLV of a PROXY v2 header, in order.
    """

    client: Address
    local: Address | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()


@frozen
class Wake:
    """Call `IFilter.woken` with `token` in `seconds`."""

    seconds: float
    token: object = None


@frozen
class Await:
    """Pause reading until `awaitable` has a result, then call `IFilter.resumed` with it."""

    awaitable: Awaitable[object]


@frozen
class Close:
    """
    End the session: write `reply` to the side whose bytes were seen, flush, close.

    What is flushed to the filter behind those bytes is not shown to it, and is dropped. Of several
    filters that close, one because of what another one's closing flushed, the first has its reply written.

    :ivar reason: for the log; not bytes of users.
    :ivar abort: reset instead; nothing is flushed.
    """

    reason: str
    reply: bytes = b""
    abort: bool = False


Verdict = (
    None
    | bytes
    | NeedMore
    | Sign
    | Bypass
    | Forward
    | Reply
    | Delay
    | Copy
    | Route
    | Announce
    | Wake
    | Await
    | Close
    | Sequence["Verdict"]
)


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
        """What an `Await` brought: its result, or the exception that it raised."""

    def woken(token: object) -> Verdict:
        """A `Wake` came due."""

    def closed(summary: SessionSummary) -> None:
        """The session is over: exactly once, with the relay's own counts and the close reason."""


class IFilterFactory(Interface):
    """One ``filter`` clause of a rule."""

    directions: frozenset[Direction] = Attribute("the directions it ever needs to see")
    routes: bool = Attribute(
        "the dial is held until it has decided: by `Route`, or by being done with the client's bytes"
    )
    max_hold: int = Attribute("most bytes that are held for it in one direction")
    hold_timeout: float = Attribute("seconds that a routing filter has to decide")
    on_timeout: str = Attribute(
        "where it could not decide in time: 'close', or 'pass' to the rule's own target"
    )
    on_error: str = Attribute(
        "where it raises: 'close' (the session is aborted), or 'bypass' as long as it has altered nothing"
    )

    def build(connection: Connection) -> Any:
        """An `IFilter` for `connection`, or None to stay out of it."""


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
    hold_timeout: ClassVar[float] = HOLD_TIMEOUT
    on_timeout: ClassVar[str] = "close"
    on_error: ClassVar[str] = "close"

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


@implementer(IFilterFactory)
@frozen
class Factory:
    """
    A factory out of a function: what most plug-ins' `configure` returns.

    :ivar make: a filter for a connection, or None to stay out of it.
    :ivar announces: it may `Announce` the client before the dial; limits of each source wait for that.
    :ivar leads: what it writes has to be the first that the upstream gets: a rule in which it stands before a
        filter that routes, so before the one that holds the client's first bytes, is refused.
    """

    make: Callable[[Connection], Any]
    directions: frozenset[Direction] = BOTH
    routes: bool = False
    max_hold: int = MAX_HOLD
    hold_timeout: float = HOLD_TIMEOUT
    on_timeout: str = "close"
    on_error: str = "close"
    announces: bool = False
    leads: bool = False

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
