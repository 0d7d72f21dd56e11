# -*- test-case-name: tests.filters.chain.test_chain -*-
"""
What a chain asks of whoever runs it: the relay, or `portfwd.testing.Pipe`.

The chain does no I/O. Each of its methods returns a list of these, to be done in
order; while one is being done the chain may be called again, and what it then
returns is done after the rest of the first list. Nothing follows `Finish`, and
nothing is written toward the upstream before the chain is told that it is connected.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import field, frozen

from portfwd.filters.api import Sink
from portfwd.values import Address, Direction, Side


@frozen
class Write:
    """
    Write `data` to the destination of `direction`, behind what was written before.

    It may be a filter's own word, and come while `direction` is not read, or after `Unseen`. Where
    the end of `direction` went out unseen it has nowhere to go.

    :ivar answer: it came of what the destination sent, now or earlier: who does not read its answers is not
        to be read. It is a hint, and no part of what is written.
    """

    direction: Direction
    data: bytes
    answer: bool = field(default=False, eq=False)


@frozen
class SendEnd:
    """The end of `direction` goes out, behind what was written before."""

    direction: Direction


@frozen
class StartDial:
    """
    Dial now; told once, unless the session finishes before.

    :ivar target: see `portfwd.filters.api.Route`; None: the rule's own.
    :ivar permits: see there.
    :ivar filter: the name of the filter that chose the target; no part of what is asked.
    """

    target: object = None
    permits: Callable[[Address], bool] | None = None
    filter: str = field(default="", eq=False)


@frozen
class Judge:
    """
    The connection's client is another one now: access lists and limits judge it anew.

    If it may stay, `Chain.judged` is called; the chain does nothing before.
    """

    client: Address
    local: Address | None


@frozen
class Finish:
    """
    The session is over. No `SendEnd` comes in the same list.

    :ivar detail: for the log.
    :ivar abort: reset both sides; else flush what was written and close.
    :ivar filter: the name of the filter that ended it; empty where the dial did.
    """

    detail: str
    abort: bool = False
    filter: str = ""


@frozen
class Arm:
    """Call `Chain.due` with `key` in `seconds`."""

    key: int
    seconds: float


@frozen
class Disarm:
    """Forget the `Arm` of `key`."""

    key: int


@frozen
class Begin:
    """
    Await `awaitable`, then call `Chain.settled` with `key` and its result, or `Chain.failed` with what it
    raised.

    Others may wait for the same object: it is neither cancelled nor altered.
    """

    key: int
    awaitable: Awaitable[object]


@frozen
class Abandon:
    """The outcome of the `Begin` with `key` is not wanted any more."""

    key: int


@frozen
class Secure:
    """
    TLS begins on `side`, behind what was written there; then `Chain.secured` is called, or the session ends.

    :ivar factory: says the options, in ``starts_tls``.
    :ivar rest: bytes of that side that were shown and belong to TLS.
    :ivar server_name: see `portfwd.filters.api.StartTLS`.
    :ivar filter: the name of the filter that asked; no part of what is asked.
    """

    side: Side
    factory: object = field(eq=False, repr=False)
    rest: bytes = b""
    server_name: str | None = None
    filter: str = field(default="", eq=False)


@frozen
class Store:
    """Hand a copy to `sink`."""

    sink: Sink
    data: bytes


@frozen
class PauseReading:
    """Read no more of `direction`, until `ReadOn`; what comes all the same is still shown."""

    direction: Direction


@frozen
class ReadOn:
    """Read `direction` again."""

    direction: Direction


@frozen
class Unseen:
    """
    The next bytes of `direction`, behind those shown last, need not be shown.

    It is an offer, and replaces the one before. Bytes that are shown all the same count as
    the next ones. Bytes that are not shown are told of by `Chain.passed`, before the chain is told
    anything else; where `count` is None that is not needed.

    :ivar count: how many; 0: none, the offer before is taken back; None: all that will ever come, and the
        end neither.
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
    A filter raised: to be logged and counted; what it means for the session is said by the effects behind it.

    :ivar filter: the filter's name in the rule.
    :ivar error: with its traceback.
    :ivar method: what of the filter or its factory failed; no part of what it says.
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
