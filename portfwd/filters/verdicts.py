# -*- test-case-name: tests.filters.test_verdicts -*-
"""
Checks the verdicts that a filter has returned, and converts them to steps.

All verdicts are checked before the first one is applied, so a filter whose third verdict is invalid has not
done the first two. Errors are written for authors of filters. `steps_of` decides about the bytes that the
filter was called with. `portfwd.filters.verdict_kinds` defines the verdicts, and
`portfwd.filters.chain.inquiry` performs the steps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterator
from math import isfinite
from typing import Final

from attrs import frozen

from portfwd.filters.api import (
    DONE,
    DROP,
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
    Wake,
)
from portfwd.filters.verdict_kinds import Item
from portfwd.values import Direction, InetAddress, Side, UnixAddress, counted


@frozen
class Keep:
    """
    Hold `data` for the filter instead of the bytes that it was called with.

    :ivar total: see `NeedMore`.
    :ivar whole: whether these are all bytes that the filter was called with, so it made no progress.
    """

    data: bytes
    total: int = 0
    whole: bool = False


@frozen
class Wait:
    """Hold `data` until an `Await` ends. `resumed` or `failed` judges it."""

    data: bytes


@frozen
class Skip:
    """Do not call the filter for the next `count` bytes."""

    count: int


@frozen
class Stop:
    """Do not call the filter again in this direction."""


@frozen
class Want:
    """Do not call the filter with fewer than `total` bytes. No bytes are held yet."""

    total: int


#: A step of a verdict. Steps name all bytes that are sent or held.
Step = (
    Forward
    | Reply
    | Delay
    | Release
    | End
    | StartTLS
    | Again
    | Keep
    | Want
    | Wait
    | Skip
    | Stop
    | Copy
    | Route
    | Announce
    | Wake
    | Await
    | Close
)

#: RFC 9293 section 3.1: ports have 16 bits.
MAX_PORT: Final = 0xFFFF

#: Most levels of nested lists. More means that a list contains itself.
MAX_DEPTH: Final = 8


def read_verdict(verdict: object, *, datagrams: bool = False) -> list[Item]:
    """
    The verdicts in `verdict`, in order.

    :param datagrams: whether they are for datagrams, which cannot be held or bypassed in parts.
    :raises TypeError: an element is not a verdict, or has a value of the wrong type.
    :raises ValueError: a number is out of range.
    """
    items: list[Item] = []
    _read(verdict, items, datagrams, 0)
    return items


def consumes(item: Item, *, datagrams: bool = False) -> bool:
    """
    Whether `item` decides about the bytes that the filter was called with.

    If no item does, the bytes pass, so an incomplete verdict loses no data.
    """
    if isinstance(item, Delay):
        return datagrams or bool(item.data)
    return item is DROP or isinstance(
        item, bytes | Forward | Reply | NeedMore | Again | Bypass | StartTLS | Close
    )


def alters(item: Item) -> bool:
    """Whether `item` may change the stream."""
    match item:
        case NeedMore():
            return item.rest is not None
        case Bypass():
            return item.data is not None
        case Delay():
            return bool(item.data)
        case Forward() | Reply() | Close() | Again() | End() | StartTLS() | bytes():
            return True
    return item is DROP


def steps_of(
    items: list[Item],
    data: bytes | None,
    *,
    datagrams: bool = False,
    direction: Direction = Direction.TO_UPSTREAM,
) -> Iterator[Step]:
    """
    The steps of the verdicts `items` on `data`, in order.

    :param direction: direction of `data`.
    :param data: the bytes that the filter was called with; None if the method judges no bytes.
    """
    consumed = any(consumes(item, datagrams=datagrams) for item in items)
    for item in items:
        if data is not None and _passes(item, consumed=consumed):
            yield Forward(data)
            data = None
        match item:
            case None:
                pass
            case bytes():
                yield Forward(item)
            case NeedMore():
                kept = data if item.rest is None else item.rest
                total = item.total or 0
                yield Want(total) if kept is None else Keep(kept, total, item.rest is None)
                data = None
            case Bypass():
                if item.data is not None:
                    yield Forward(item.data)
                yield Skip(item.count)
            case Sign():
                if item is DONE:
                    yield Stop()
            case _:
                yield item
    if data is not None and not consumed:
        waits = any(isinstance(item, Await) and item.pauses(direction) for item in items)
        yield Wait(data) if waits else Forward(data)


def _passes(item: Item, *, consumed: bool) -> bool:
    """Whether `item` passes the bytes that the filter was called with."""
    if isinstance(item, Bypass):
        return item.data is None
    return item is None or (item is DONE and not consumed)


def _read(verdict: object, items: list[Item], datagrams: bool, depth: int) -> None:
    match verdict:
        case None | bytes() | Sign():
            items.append(verdict)
            return
        case list() | tuple():
            if depth == MAX_DEPTH:
                raise ValueError(f"verdicts are nested more than {MAX_DEPTH} deep")
            for one in verdict:
                # Long lists are of these.
                kind = type(one)
                if kind is bytes or (kind is Forward and type(one.data) is bytes):
                    items.append(one)
                else:
                    _read(one, items, datagrams, depth + 1)
            return
        case Forward() | Reply():
            _need_bytes(verdict, verdict.data)
        case NeedMore():
            _check_need_more(verdict, datagrams)
        case Again():
            if datagrams:
                raise ValueError("a datagram has no rest: it is judged as a whole")
            _need_bytes(verdict, verdict.rest)
        case Bypass():
            if datagrams:
                raise ValueError("Bypass counts the bytes of a stream; for datagrams return None, or DONE")
            _need_count(verdict, verdict.count)
            if verdict.data is not None:
                _need_bytes(verdict, verdict.data)
        case Delay():
            _need_seconds(verdict, verdict.seconds)
            _need_bytes(verdict, verdict.data)
        case Release():
            if not isinstance(verdict.direction, Direction):
                raise TypeError(f"Release needs a direction, not {_kind(verdict.direction)}")
        case End():
            if datagrams:
                raise ValueError("datagrams have no end; return Close to end the session")
            if not isinstance(verdict.direction, Direction):
                raise TypeError(f"End needs a direction, not {_kind(verdict.direction)}")
        case StartTLS():
            _check_start_tls(verdict, datagrams)
        case Copy():
            _need_bytes(verdict, verdict.data)
            if not isinstance(verdict.sink, Sink):
                raise TypeError(f"the sink of a Copy must be a Sink, not {_kind(verdict.sink)}")
        case Route():
            if isinstance(verdict.target, InetAddress):
                _need_address(verdict, verdict.target)
            elif isinstance(verdict.target, bytes | bytearray | int | tuple | list):
                raise TypeError(
                    f"Route needs a text, an address or a route's target, not {_kind(verdict.target)}"
                )
            if verdict.permits is not None and not callable(verdict.permits):
                raise TypeError("the permits of a Route must be a function of an address")
        case Announce():
            _need_address(verdict, verdict.client)
            if verdict.local is not None:
                _need_address(verdict, verdict.local)
        case Wake():
            _need_seconds(verdict, verdict.seconds)
        case Await():
            if not isinstance(verdict.awaitable, Awaitable):
                raise TypeError(f"Await needs an awaitable, not {_kind(verdict.awaitable)}")
            if verdict.timeout is not None:
                _need_seconds(verdict, verdict.timeout)
            _check_directions(verdict.directions)
        case Close():
            _need_bytes(verdict, verdict.reply)
            if not isinstance(verdict.reason, str):
                raise TypeError(f"the reason of a Close must be str, not {_kind(verdict.reason)}")
        case _:
            raise TypeError(
                f"a filter returns verdicts, bytes or None, not {_kind(verdict)}{_advice(verdict)}"
            )
    items.append(verdict)


def _check_need_more(verdict: NeedMore, datagrams: bool) -> None:
    if datagrams:
        raise ValueError("no datagram is held: each is judged as it comes")
    if verdict.total is not None:
        _need_count(verdict, verdict.total)
    if verdict.rest is not None:
        _need_bytes(verdict, verdict.rest)


def _check_start_tls(verdict: StartTLS, datagrams: bool) -> None:
    if datagrams:
        raise ValueError("there is no TLS over datagrams")
    if not isinstance(verdict.side, Side):
        raise TypeError(f"StartTLS needs a side, not {_kind(verdict.side)}")
    _need_bytes(verdict, verdict.rest)
    if verdict.server_name is not None and not isinstance(verdict.server_name, str):
        raise TypeError(f"the server_name of StartTLS must be str, not {_kind(verdict.server_name)}")


def _check_directions(directions: object) -> None:
    if directions is None or isinstance(directions, Direction):
        return
    if not isinstance(directions, Collection) or not all(isinstance(one, Direction) for one in directions):
        raise TypeError(f"the directions of Await are a direction or a set of them, not {_kind(directions)}")


def _need_bytes(verdict: object, data: object) -> None:
    if not isinstance(data, bytes):
        raise TypeError(f"the data of {_kind(verdict)} must be bytes, not {_kind(data)}")


def _need_address(verdict: object, address: object) -> None:
    if isinstance(address, InetAddress):
        if not isinstance(address.host, str) or not address.host:
            raise TypeError(f"the host of an address in {_kind(verdict)} must be a text")
        if not isinstance(address.port, int) or not 0 <= address.port <= MAX_PORT:
            raise ValueError(f"{_kind(verdict)} has an address whose port is not within 0 to {MAX_PORT}")
    elif not isinstance(address, UnixAddress):
        raise TypeError(f"{_kind(verdict)} needs an InetAddress or UnixAddress, not {_kind(address)}")


def _need_count(verdict: object, count: object) -> None:
    if not isinstance(count, int):
        raise TypeError(f"{_kind(verdict)} counts bytes in whole numbers, not {_kind(count)}")
    if count < 0:
        raise ValueError(f"{_kind(verdict)} cannot count {counted(count, 'byte')}")


def _need_seconds(verdict: object, seconds: object) -> None:
    if not isinstance(seconds, int | float):
        raise TypeError(f"the seconds of {_kind(verdict)} must be a number, not {_kind(seconds)}")
    if not isfinite(seconds) or seconds < 0:
        raise ValueError(f"{_kind(verdict)} cannot take {seconds} seconds")


def _kind(value: object) -> str:
    # Without the value itself, which may be bytes of users.
    return value.__name__ if isinstance(value, type) else type(value).__name__


def _advice(verdict: object) -> str:
    """A hint for the probable intention of the author."""
    if isinstance(verdict, type):
        return ": make an instance of it"
    if isinstance(verdict, bytearray | memoryview):
        return ": copy it with bytes()"
    if isinstance(verdict, str):
        return ": encode it"
    if isinstance(verdict, Awaitable):
        return ": return Await(...) with it"
    return ""
