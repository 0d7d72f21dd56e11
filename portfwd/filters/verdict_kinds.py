# -*- test-case-name: tests.filters.test_verdicts -*-
"""
The verdicts, which a filter returns.

A *verdict* is one of:

=========================  ============================================================================
``None``                   pass the bytes unchanged
``bytes``                  pass these instead; ``b""`` drops the bytes
`NEED_MORE`, `NeedMore`    keep the bytes, and call again with them and the next ones
`Again`                    call again at once with the rest
`DONE`                     pass the bytes and never call again in this direction
`Bypass`                   pass `data`, then a number of bytes that the filter does not see
`Forward`, `Reply`         send onward; send back to the side that sent the bytes
`Delay`                    send onward later, in order
`Release`                  send the delayed bytes of a direction now
`Copy`                     copy bytes to a sink of the relay
`End`                      end a direction after the passed bytes
`StartTLS`                 begin TLS on a side after the passed or replied bytes
`Route`                    dial another target than that of the rule; only before the dial
`Announce`                 treat the connection as one of another client from now on
`Wake`, `Await`            call `woken` later; pause reading until a result is available, then call `resumed`
`Close`                    flush and close, or reset
`DROP`                     drop a datagram (``b""`` is an empty datagram)
a list or tuple of these   in order
=========================  ============================================================================

Some verdicts consume the bytes that the filter was called with: `bytes`, `Forward`, `Reply`, `Delay` with
data, `NeedMore`, `Again`, `Bypass`, `StartTLS`, `DROP`, `Close`. If no verdict consumes them, they pass: at
the place of a ``None`` in a list, else after the list. So ``[Reply(b"hello"), None]`` greets and passes, and
``[Reply(b"no"), b""]`` answers and drops. An `Await` alone keeps them if it pauses their direction; `resumed`
then judges them. `woken` judges no bytes.

This module defines the verdicts. `portfwd.filters.verdicts` checks them, and `portfwd.filters.chain.chain`
applies them.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from attrs import frozen

from portfwd.values import Address, Direction, Side


class Sign(enum.Enum):
    """Verdicts without arguments."""

    # Members are singletons: hashing their identity is faster than hashing their name.
    __hash__ = object.__hash__

    DONE = "done"
    DROP = "drop"

    def __repr__(self) -> str:
        return self.name


#: Pass the bytes, and never call the filter again in this direction.
DONE: Final = Sign.DONE
#: Drop a datagram. For datagrams, ``b""`` passes an empty one.
DROP: Final = Sign.DROP


@frozen
class NeedMore:
    """
    Keep bytes, and call again with them and the next.

    :ivar total: the number of bytes that are needed, held ones included; the filter is not called with fewer.
        None: call again with any number.
    :ivar rest: keep only these bytes, the tail of the data of this call. Verdicts before this one must have
        dealt with the bytes before it. None: keep everything.
    """

    total: int | None = None
    rest: bytes | None = None


#: Keep all bytes, and call again with them and the next: `NeedMore` without a number.
NEED_MORE: Final = NeedMore()


@frozen
class Again:
    """
    Call again at once with `rest`, the tail of the data; verdicts before this one deal with the bytes before
    it.

    A filter can handle one message in each call, without a loop: ``[Forward(message), Again(rest)]``.

    :ivar rest: less than the data of this call. If it is empty, the next call has the next bytes.
    """

    rest: bytes


@frozen
class Bypass:
    """
    Pass `data`, then `count` bytes of this direction unseen.

    :ivar count: the number of bytes that pass without a call.
    :ivar data: passed before `count` begins, instead of the data of this call. None: the data of this call
        passes and is part of `count`.
    """

    count: int
    data: bytes | None = None


@frozen
class Forward:
    """Pass `data` to the other side."""

    data: bytes


@frozen
class Reply:
    """Send `data` back to the side that sent the bytes."""

    data: bytes


@frozen
class Delay:
    """
    Pass `data` to the other side `seconds` later. Later bytes and an end of this direction wait behind it.

    If `IFilter.ended` returns it without data, it delays the end.
    """

    seconds: float
    data: bytes = b""


@frozen
class Sink:
    """
    Where copies go. The relay opens, bounds and closes it.

    Two sinks are the same if they have the same kind and name, and for streams the same session.

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
    """Pass what is delayed in `direction` behind this filter now, also an end that waits behind it."""

    direction: Direction


@frozen
class Copy:
    """Write `data` to `sink`, without waiting for it: what does not fit is dropped and counted."""

    sink: Sink
    data: bytes


@frozen
class End:
    """
    End `direction`: its destination gets an end behind everything that this filter has passed.

    Bytes that are held or delayed for the filter in this direction are passed first. The filter is not called
    for this direction again, and what the source still sends is dropped. The other direction continues.
    """

    direction: Direction


@frozen
class StartTLS:
    """
    Start TLS on `side`, behind what this filter has passed or replied. The filter sees decrypted bytes after
    it.

    The factory's ``starts_tls`` has the options: those of a ``tls:`` listener for the client's side, where
    the relay is the TLS server, and those of a ``tls:`` target for the upstream's side, where it is the TLS
    client. The relay reads nothing from either side until the handshake is complete. If the handshake fails,
    the session ends.

    :ivar rest: bytes of that side which the filter has seen already and which belong to TLS.
    :ivar server_name: for the upstream's side: the name in the handshake and in the certificate. None: the
        name in the options, or the host that was dialled.
    """

    side: Side
    rest: bytes = b""
    server_name: str | None = None


@frozen
class Route:
    """
    Dial `target` instead of the rule's target. It is valid before the dial only.

    :ivar target: an address; the target of one of the rule's `RouteClause`s; or a text: the name of a
        ``target`` clause of the rule, or a target with its options as a rules file writes it
        (``"tls:db.example:5432 server-name=db src=10.0.0.1"``). A text with TLS or an endpoint needs
        ``relay=pair`` in the rule, whose relay is decided before its first client. None: the rule's own.
    :ivar permits: called with every address before it is dialled, also with those of a resolved name. An
        address for which it returns false is left out. None permits all addresses.
    """

    target: object = None
    permits: Callable[[Address], bool] | None = None


@frozen
class Announce:
    """
    Treat the connection as one from `client`: access lists, limits and logs use this address from now on.

    :ivar local: the address that this client connected to.
    :ivar tlvs: type and value of each TLV of a PROXY v2 header, in order.
    """

    client: Address
    local: Address | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()


@frozen
class Wake:
    """
    Call `IFilter.woken` with `token` after `seconds`.

    A filter of a session has at most 1024 of them at a time; one more is a wrong verdict.
    """

    seconds: float
    token: object = None


@frozen
class Await:
    """
    Pause reading until `awaitable` has a result, then call `IFilter.resumed` with it.

    If it pauses the direction of the data of this call, the relay keeps the data until `resumed` judges it.
    From ``received`` it pauses that direction only: the other side's bytes still pass. If nothing may pass
    before the result, name both directions in `directions`.

    If the awaitable raises, ``failed`` is called instead (see `IFailing`). For a filter without that method
    the relay does what `IFilterFactory.on_error` says. Results are delivered one at a time, after the current
    method has returned.

    :ivar awaitable: a Deferred, a coroutine, or another awaitable; one of asyncio needs Twisted's asyncio
        reactor. Several sessions may await one Deferred: each gets the result, and the Deferred is not
        cancelled when a session ends. A filter cancels its own Deferreds in `IFilter.closed`. If the client
        has ended its direction, ``half-close`` limits the wait.
    :ivar timeout: seconds after which the wait fails with `TimeoutError`; a coroutine is then closed. None:
        the factory's ``hold_timeout``, if there is one.
    :ivar directions: the directions that are not read meanwhile: one, or a set, which may be empty. None: the
        direction of the data; for ``opened``, ``connected`` and ``dial_failed`` both.
    """

    awaitable: Awaitable[object]
    timeout: float | None = None
    directions: Direction | Collection[Direction] | None = None

    def pauses(self, direction: Direction) -> bool:
        """Whether it pauses `direction`, that of the bytes that the filter was called with."""
        paused = self.directions
        return (
            paused is None
            or paused is direction
            or (not isinstance(paused, Direction) and direction in paused)
        )


@frozen
class Close:
    """
    End the session: write `reply` to the side whose bytes the filter looks at, flush, close.

    Bytes that reach the filter behind those of this call are dropped. If several filters close the session,
    the reply of the first one is written.

    :ivar reason: for the log, which cuts it after 1024 characters. It must not contain bytes of users.
    :ivar abort: reset both sides instead, without flushing.
    """

    reason: str
    reply: bytes = b""
    abort: bool = False


#: One verdict in a list.
Item = (
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
)
#: What a filter's methods return: one of the verdicts on this page, None, bytes, or a sequence of these.
Verdict = Item | Sequence["Verdict"]
