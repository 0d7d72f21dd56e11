"""Filters that answer what a test says, and a chain of them on a connection of nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from portfwd.filters import (
    Address,
    Connection,
    Direction,
    Factory,
    Filter,
    InetAddress,
    SessionSummary,
    Verdict,
)
from portfwd.filters.chain.chain import Chain
from portfwd.filters.chain.effects import Effect, Write
from portfwd.filters.chain.link import Stage

CLIENT = InetAddress("192.0.2.1", 5000)
LOCAL = InetAddress("198.51.100.1", 80)
UPSTREAM = InetAddress("203.0.113.1", 8080)

SUMMARY = SessionSummary(
    id=1,
    rule="web",
    written=("*", "80", "app", "8080"),
    client=CLIENT,
    local=LOCAL,
    upstream=UPSTREAM,
    opened_at=0.0,
)


class Scripted(Filter):
    """
    Returns what it was given for an event: a verdict, or what a function makes of its arguments.

    An exception is raised.

    :ivar calls: name and arguments of every call.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers = {"received": None, **answers}
        self.calls: list[tuple[Any, ...]] = []

    def _answer(self, event: str, *arguments: Any) -> Any:
        self.calls.append((event, *arguments))
        answer = self.answers.get(event)
        if callable(answer) and not isinstance(answer, type):
            answer = answer(*arguments)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def opened(self, connection: Connection) -> Verdict:
        return self._answer("opened", connection)  # type: ignore[no-any-return]

    def received(self, direction: Direction, data: bytes) -> Verdict:
        return self._answer("received", direction, data)  # type: ignore[no-any-return]

    def connected(self, upstream: Address | None) -> Verdict:
        return self._answer("connected", upstream)  # type: ignore[no-any-return]

    def dial_failed(self, reason: Exception) -> Verdict:
        return self._answer("dial_failed", reason)  # type: ignore[no-any-return]

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        return self._answer("ended", direction, held)  # type: ignore[no-any-return]

    def resumed(self, result: object) -> Verdict:
        return self._answer("resumed", result)  # type: ignore[no-any-return]

    def woken(self, token: object) -> Verdict:
        return self._answer("woken", token)  # type: ignore[no-any-return]

    def closed(self, summary: SessionSummary) -> None:
        self._answer("closed", summary)

    def seen(self, direction: Direction | None = None) -> list[bytes]:
        """The bytes it was called with."""
        return [call[2] for call in self.calls if call[0] == "received" and direction in (None, call[1])]

    def told(self, event: str) -> int:
        """How often `event` was told."""
        return sum(call[0] == event for call in self.calls)


def script(*answers: Any) -> Callable[..., Any]:
    """A function that returns these one after another, and then None."""
    left = list(answers)
    return lambda *arguments: left.pop(0) if left else None


def nobody() -> Connection:
    """A connection to try filters on."""
    return Connection(1, "web", Logger(), client=CLIENT, local=LOCAL)


def seat(one: Filter, **options: Any) -> tuple[Factory, Filter]:
    """`one`, with what its factory says."""
    return Factory(lambda connection: one, **options), one


def chain_of(
    *seats: Filter | tuple[Factory, Filter], connection: Connection | None = None, datagrams: bool = False
) -> Chain:
    """A chain of filters named a, b, c, …, in this order."""
    known = connection or nobody()
    stages = [
        Stage(name, *(one if isinstance(one, tuple) else seat(one)), known)
        for name, one in zip("abcdefgh", seats, strict=False)
    ]
    return Chain(stages, known, datagrams=datagrams)


def relaying(*seats: Filter | tuple[Factory, Filter], datagrams: bool = False) -> Chain:
    """The same, open and connected; what came of that is forgotten."""
    chain = chain_of(*seats, datagrams=datagrams)
    chain.open()
    chain.connected(UPSTREAM)
    return chain


def written(effects: list[Effect], direction: Direction) -> bytes:
    """The bytes that `effects` write in `direction`."""
    return b"".join(
        effect.data for effect in effects if isinstance(effect, Write) and effect.direction is direction
    )
