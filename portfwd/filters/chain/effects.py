# -*- test-case-name: tests.filters.chain.test_chain -*-
"""
The effects that a chain returns to its caller: the relay, or `portfwd.testing.Pipe`.

The chain does no I/O. Each of its methods returns a list of effects, which the caller performs in order. The
chain may be called again meanwhile; the effects of that call come after the rest of the first list. Nothing
follows `Finish`. Nothing is written to the upstream before `Chain.connected` is called.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import field, frozen

from portfwd.filters.api import Sink
from portfwd.values import Address, Direction, Side


@frozen
class Write:
    """
    Write `data` to the destination of `direction`.

    The bytes may come from a filter, also while `direction` is not read, or after `Unseen`. If the end of
    `direction` has passed unseen, they are dropped.

    :ivar answer: whether they answer bytes of the destination. A destination that does not read its answers
        should not be read. This is a hint.
    """

    direction: Direction
    data: bytes
    answer: bool = field(default=False, eq=False)


@frozen
class SendEnd:
    """End `direction` after the bytes written before."""

    direction: Direction


@frozen
class StartDial:
    """
    Dial now. Returned once, unless the session finishes before.

    :ivar target: see `portfwd.filters.api.Route`; None for that of the rule.
    :ivar permits: see there.
    :ivar filter: name of the filter that chose the target, for messages.
    """

    target: object = None
    permits: Callable[[Address], bool] | None = None
    filter: str = field(default="", eq=False)


@frozen
class Judge:
    """
    The client of the connection has changed: judge it by access lists and limits again.

    If it is admitted, call `Chain.judged`. The chain does nothing before.
    """

    client: Address
    local: Address | None


@frozen
class Finish:
    """
    End the session. The same list has no `SendEnd`.

    :ivar detail: text for the log.
    :ivar abort: whether to reset both sides; if not, flush the written bytes and close.
    :ivar filter: name of the filter that ended it; empty for the dial.
    """

    detail: str
    abort: bool = False
    filter: str = ""


@frozen
class Arm:
    """Call `Chain.due` with `key` after `seconds`."""

    key: int
    seconds: float


@frozen
class Disarm:
    """Cancel the `Arm` of `key`."""

    key: int


@frozen
class Begin:
    """
    Await `awaitable`, then call `Chain.settled` with `key` and its result, or `Chain.failed` with its
    exception.

    Other code may wait for the same object, so it must not be cancelled or changed.
    """

    key: int
    awaitable: Awaitable[object]


@frozen
class Abandon:
    """Ignore the result of the `Begin` with `key`."""

    key: int


@frozen
class Secure:
    """
    Begin TLS on `side` after the bytes written there. Then call `Chain.secured`, or end the session.

    :ivar factory: has the options in ``starts_tls``.
    :ivar rest: bytes of that side that the filter has seen and that belong to TLS.
    :ivar server_name: see `portfwd.filters.api.StartTLS`.
    :ivar filter: name of the filter, for messages.
    """

    side: Side
    factory: object = field(eq=False, repr=False)
    rest: bytes = b""
    server_name: str | None = None
    filter: str = field(default="", eq=False)


@frozen
class Store:
    """Copy bytes to `sink`."""

    sink: Sink
    data: bytes


@frozen
class PauseReading:
    """Stop reading `direction` until `ReadOn`. Bytes that arrive nevertheless are still reported."""

    direction: Direction


@frozen
class ReadOn:
    """Read `direction` again."""

    direction: Direction


@frozen
class Unseen:
    """
    The chain need not be called for the next bytes of `direction`.

    This is an offer that replaces the previous one. If the chain is called with such bytes nevertheless, they
    count as the next ones. Bytes that pass without a call are reported by `Chain.passed` before any other
    call; not if `count` is None.

    :ivar count: number of bytes; 0 to withdraw the previous offer; None for all further bytes and the end.
    """

    direction: Direction
    count: int | None = None


@frozen
class GoOn:
    """
    The chain has more to do than others should wait for: call `Chain.go_on` in a turn to come.

    It is the last effect. Until `Chain.go_on` has returned none the chain must not be told anything else.
    """


@frozen
class Trouble:
    """
    A filter raised an exception, to be logged and counted. The effects after this one decide about the
    session.

    :ivar filter: name of the filter in the rule.
    :ivar error: the exception with its traceback.
    :ivar method: the method of the filter or of its factory, for messages.
    """

    filter: str
    error: BaseException
    method: str = field(default="", eq=False)


Effect = (
    Write
    | SendEnd
    | StartDial
    | Judge
    | Finish
    | Arm
    | Disarm
    | Begin
    | Abandon
    | Secure
    | Store
    | PauseReading
    | ReadOn
    | Unseen
    | GoOn
    | Trouble
)
