# -*- test-case-name: tests.filters.test_verdicts -*-
"""
The verdicts: what a filter may answer.

A *verdict* is one of:

=========================  ============================================================================
``None``                   pass the bytes unchanged
``bytes``                  pass these instead; ``b""`` drops
`NEED_MORE`, `NeedMore`    keep the bytes, and call again with them and the next
`Again`                    call again at once with the rest
`DONE`                     pass the bytes and never call again in this direction
`Bypass`                   pass `data`, then so many bytes unseen
`Forward`, `Reply`         onward; back to the side they came from
`Delay`                    onward, later, in order
`Release`                  what is delayed in a direction goes on now
`Copy`                     hand a copy to a sink of the relay
`End`                      end a direction, behind what was passed
`StartTLS`                 TLS begins on a side, behind what was passed or replied
`Route`                    dial this instead of the rule's target; before the dial only
`Announce`                 the connection is this client's from here on
`Wake`, `Await`            call `woken` later; pause reading until a result is there, then call `resumed`
`Close`                    flush and close, or reset
`DROP`                     for datagrams: forget this one (there ``b""`` is an empty datagram)
a list or tuple of these   in order
=========================  ============================================================================

The bytes that a filter was called with are used up by a verdict that speaks of bytes: `bytes`,
`Forward`, `Reply`, `Delay` with data, `NeedMore`, `Again`, `Bypass`, `StartTLS`, `DROP`, `Close`. Otherwise
they pass: at the place of a ``None`` in a list, else behind the list; so ``[Reply(b"hello"), None]`` greets
and passes, ``[Reply(b"no"), b""]`` answers and drops. An `Await` alone keeps them if it pauses
their direction, and they are what `resumed` then judges; `woken` judges none.

This module defines the verdicts; `portfwd.filters.verdicts` reads them, and `portfwd.filters.chain.chain`
gives them their effect.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from attrs import frozen

from portfwd.values import Address, Direction, Side


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
class Again:
    """
    Call again at once with `rest`, the tail of what was seen; what is before it must have been passed.

    So a filter deals with one message a call: ``[Forward(message), Again(rest)]``, and has no loop.

    :ivar rest: less than the filter was called with. If it is empty, the next bytes are shown as usual.
    """

    rest: bytes


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
class Release:
    """What is delayed behind this filter in `direction` goes on now, and an end that waits behind it, too."""

    direction: Direction


@frozen
class Copy:
    """Hand `data` to `sink`; never waited for: what does not fit is dropped and counted."""

    sink: Sink
    data: bytes


@frozen
class End:
    """
    End `direction`: its destination gets an end behind everything that this filter has passed.

    What is held or delayed for the filter in this direction goes out before. What the source still sends is
    dropped behind the filter, which is not called about this direction again. The other direction goes on.
    """

    direction: Direction


@frozen
class StartTLS:
    """
    TLS begins on `side`, behind what this filter has passed or replied; from then on there are plain bytes
    again.

    The factory's ``starts_tls`` has the options: those of a ``tls:`` listener for the client's side, where
    TLS is terminated, and those of a ``tls:`` target for the upstream's side, where it is originated.
    Nothing is read from either side until the handshake is through. If it fails, the session ends.

    :ivar rest: bytes of that side that were seen already and belong to TLS: those behind the client's
        request.
    :ivar server_name: for the upstream's side: the name in the handshake and in the certificate; None: that
        of the options, else the host that was dialled.
    """

    side: Side
    rest: bytes = b""
    server_name: str | None = None


@frozen
class Route:
    """
    Dial `target` instead of the rule's; before the dial only.

    :ivar target: an address; the target of one of the rule's `RouteClause`s; or a text: the name of a
        ``target`` clause of the rule, or a target with its options as a rules file writes it
        (``"tls:db.example:5432 server-name=db src=10.0.0.1"``). None: the rule's own.
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
    """
    Pause reading until `awaitable` has a result, then call `IFilter.resumed` with it.

    If it pauses the direction of the bytes that the filter was called with, it keeps them for `resumed`. From
    ``received`` it pauses that direction only: what the other side sends still passes, also answers to bytes
    that are judged later. `directions` names both where nothing may pass before the result.

    If it raises, ``failed`` is called instead (see `IFailing`); a filter without that method has failed
    itself, and `IFilterFactory.on_error` decides. Results are told one at a time, after the verdict that is
    being returned and never from within a filter's method.

    :ivar awaitable: a Deferred, a coroutine, or anything else that Python can await; what is asyncio's needs
        Twisted's asyncio reactor. Many sessions may await one Deferred: each gets the result, the Deferred
        keeps it, and it is not cancelled when a session ends. A filter cancels what is its own in
        `IFilter.closed`. Where the client has ended, ``half-close`` limits it.
    :ivar timeout: seconds after which it has failed, with `TimeoutError`; a coroutine is closed then. None:
        the factory's ``hold_timeout`` limits it, where there is one.
    :ivar directions: what is not read meanwhile: a direction, or a set of them, which may be empty. None: the
        direction of the bytes; both of them from ``opened``, ``connected`` and ``dial_failed``.
    """

    awaitable: Awaitable[object]
    timeout: float | None = None
    directions: Direction | Collection[Direction] | None = None

    def pauses(self, direction: Direction) -> bool:
        """Whether it pauses `direction`, of which the filter was called with bytes."""
        paused = self.directions
        return (
            paused is None
            or paused is direction
            or (not isinstance(paused, Direction) and direction in paused)
        )


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
    | Again
    | Sign
    | Bypass
    | Forward
    | Reply
    | Delay
    | Release
    | End
    | StartTLS
    | Copy
    | Route
    | Announce
    | Wake
    | Await
    | Close
    | Sequence["Verdict"]
)
