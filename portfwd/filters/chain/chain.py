# -*- test-case-name: tests.filters.chain.test_chain -*-
"""
The chain: calls the filters of a session and applies their verdicts.

The caller reports events (`Chain.received`, `Chain.ended`, `Chain.connected`, …). Each method returns the
actions for the caller, a list of `portfwd.filters.chain.effects`. The chain has no clock, socket or thread,
so equal calls give equal results.

Order
    The filters run in the listed order toward the upstream, and in reverse order toward the client. Verdicts
    are applied in order. A `Reply` goes in the other direction; only the filters on its way see it. There is
    one queue between the filters: no filter is called while a verdict is being applied. A result that arrives
    during a call of a filter is delivered after the verdict of that call.

Results
    `IFilter.resumed` gets the result of an `Await`, never an exception. If the awaitable raises, the filter's
    ``failed`` is called. If the filter does not have that method, the filter itself has failed, and
    ``on_error`` decides.

The bytes that a filter was called with
    The verdict decides about them. ``None`` passes them at its place in a list. If no part of a verdict
    consumes them (`portfwd.filters.verdict_kinds` lists those that do), they pass after the rest. A verdict
    with an `Await` keeps them for `IFilter.resumed`. `IFilter.woken` judges no bytes: held bytes stay unless
    it returns `DONE`, `Bypass` or a `NeedMore` with a rest. In methods without bytes (``opened``,
    ``connected``, ``dial_failed``), `Forward` goes to the upstream and `Reply` to the client.

Announcements
    A filter that judges clients must not see the address of a load balancer. Filters behind one whose factory
    ``announces`` are therefore built and opened after it has announced the client and the relay has judged
    that client (`Judge`, then `Chain.judged`), or when it will not announce any more, because it is done or
    has passed bytes.

The dial
    The dial waits for every routing or announcing filter, until it routes or is done with the client's bytes.
    If its time or its held bytes reach their limit, or the client's stream ends, its ``on_timeout`` decides.
    The target is that of the filter nearest to the upstream that has chosen one. An address must be permitted
    by `permits` of all filters. Before the upstream is connected, nothing is written to it, and filters
    behind the last routing one get no bytes of the client, so their first bytes (such as a PROXY header) come
    first.

Ends
    An end passes the filters after the bytes. Delays and awaits hold it back; nothing drops it. Bytes that a
    filter sends after an end that has passed it are dropped.

Failure
    If a filter raises, or returns a value that is not a verdict, the session is aborted, so the peers see the
    truncation. With ``on_error`` "bypass" the filter is skipped from then on, unless it has changed the
    stream.

A `Close` in order
    Delayed bytes are sent at once, through the filters. The filter that closed is not called again for the
    direction whose bytes it refused; these bytes are dropped. Then both sides end.

Datagrams
    Each datagram is judged when it arrives. None is held, but a `Delay` or an `Await` may keep up to
    `portfwd.filters.chain.passage.MAX_DATAGRAMS` waiting at a filter. Further ones are dropped and counted.

Holding
    Held bytes are limited in size (``max_hold``, then ``on_overflow``) and in time (``hold_timeout``, then
    ``on_timeout``). Without ``hold_timeout`` only the dial is limited, because slow clients are normal. The
    time starts when bytes are held, and starts again when the filter makes progress. An `Await` may also last
    ``hold_timeout``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import cast

from portfwd.errors import DialError
from portfwd.filters.api import Connection, IFilterFactory, Introducing, nobody
from portfwd.filters.chain.building import build
from portfwd.filters.chain.effects import Effect, Finish, GoOn, SendEnd, StartDial, Trouble, Write
from portfwd.filters.chain.inquiry import Inquiry
from portfwd.filters.chain.link import Link, Stage
from portfwd.filters.chain.under_way import MOST_STEPS
from portfwd.quantities import format_duration
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Address, Direction, SessionSummary


def make_chain(
    clauses: Sequence[tuple[str, IFilterFactory]],
    connection: Connection,
    *,
    datagrams: bool = False,
    find_target: Callable[[object], object] | None = None,
) -> Chain | None:
    """
    Build the filters of one connection.

    An exception of a factory is reported by `Chain.open`, which ends the session if ``on_error`` of the
    factory says so.

    :param clauses: name and factory of each ``filter`` clause, in the order of the rule.
    :param find_target: raises `ValueError` for a `Route` without a target; None if the dial checks it.
    :returns: None if no factory made a filter.
    """
    wake, connection.wake = connection.wake, nobody
    built = build(clauses, connection)
    if not (built.filters or built.troubles):
        return None
    chain = Chain(
        built.filters,
        connection,
        datagrams=datagrams,
        troubles=built.troubles,
        behind=built.behind,
        wake=wake,
    )
    chain.find_target = find_target
    return chain


class Chain(Inquiry):
    """
    The filters of one session.

    Every method except `watches` and `held` returns a list of effects, in order. The first call is `open`,
    the last one `closed`. After `Finish`, the others return empty lists.

    :ivar finished: whether `Finish` was returned.
    :ivar dropped: number of datagrams dropped because too many were waiting.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        connection: Connection,
        *,
        datagrams: bool = False,
        troubles: Sequence[Effect] = (),
        behind: Sequence[tuple[str, IFilterFactory]] = (),
        wake: Callable[[object], None] = nobody,
    ) -> None:
        """
        :param stages: the filters, in the order of the rule.
        :param datagrams: whether `received` gets datagrams; ``b""`` is an empty one.
        :param troubles: errors while the filters were built, returned by `open`.
        :param behind: clauses whose filters are built when the last one of `stages` has announced.
        """
        super().__init__(stages, connection, datagrams=datagrams)
        self._undecided = [stage for stage in stages if stage.routes]
        self._closed = False
        self._later: deque[Callable[[], None]] = deque()
        self._wake_up = wake
        self._let_be_woken(stages)
        self._behind = behind
        self._unopened = bool(behind)
        for trouble in troubles:
            if isinstance(trouble, Finish):
                self._finish(trouble)
            else:
                self._effects.append(trouble)

    def __repr__(self) -> str:
        state = (
            "finished" if self.finished
            else "connected" if self._connected
            else "dialled" if self._dialled
            else "undecided"
        )  # fmt: skip
        names = ", ".join(stage.name for stage in self._stages)
        watched = "".join(f", watches {one.value}" for one in Direction if self.watches(one))
        return f"<Chain of {names or 'nothing'}: {state}{watched}>"

    # Events

    def open(self) -> list[Effect]:
        """The client was accepted."""
        self._open(self._stages)
        return self._done()

    def go_on(self) -> list[Effect]:
        """It is time for what `GoOn` asked for."""
        return [] if self.finished else self._done()

    def judged(self) -> list[Effect]:
        """The relay has judged the announced client (`Judge`) and admits it."""
        self._judging = False
        return [] if self.finished else self._done()

    def received(self, direction: Direction, data: bytes) -> list[Effect]:
        """
        Bytes, or one datagram, arrived from the source of `direction`.

        They follow the bytes of earlier calls and those reported by `passed`.
        """
        if self.finished:
            return []
        self._forget_offer(direction)
        self._come(direction, data)
        return self._done()

    def passed(self, direction: Direction, size: int) -> list[Effect]:
        """
        `count` bytes of `direction` passed without calling the chain, as allowed by `Unseen`.

        Call it before the next bytes or the end of this direction are reported. It is not necessary if
        `Unseen` allowed everything.
        """
        if self.finished:
            return []
        self._forget_offer(direction)
        for link in self._links[direction]:
            link.bypass = max(0, link.bypass - size)
        return self._done()

    def ended(self, direction: Direction) -> list[Effect]:
        """The source has ended `direction`."""
        if self.finished or self._source_ended[direction] or self._datagrams:
            return []
        self._source_ended[direction] = True
        self._come(direction, None)
        return self._done()

    def introduction(self) -> bytes:
        """The bytes that filters send to an upstream before the TLS handshake, in order."""
        return b"".join(
            stage.filter.introduction()
            for stage in self._stages
            if isinstance(stage.filter, Introducing) and not stage.dead
        )

    def connected(self, upstream: Address | None, introduced: bool = False) -> list[Effect]:
        """
        The dial succeeded. Bytes that waited for it are sent.

        :param introduced: whether `introduction` was sent to this upstream.
        """
        if self.finished:
            return []
        self._know(upstream=upstream, introduced=introduced)
        self._write_early()
        for stage in self._stages:
            self._tell(stage.up, None, "connected", upstream, both=True)
            self._work()
            if self.finished or self._closing is not None:
                return self._done()
        # The answers of filters come after their first bytes, no matter when bytes arrived.
        for stage in self._stages:
            stage.up.shut = False
            self._let_in(stage.up)
            self._work()
        if self._closing is None:
            self._go_after_dial()
        return self._done()

    def dial_failed(self, error: DialError) -> list[Effect]:
        """
        No upstream could be reached. The filters may reply to the client, then the session ends.

        It ends in order if there was a reply, else by an abort, as without filters.
        """
        if self.finished:
            return []
        self._flush()
        for stage in self._stages:
            self._tell(stage.up, None, "dial_failed", error, both=True)
            self._work()
        told = any(isinstance(effect, Write) for effect in self._effects)
        self._close(Finish(str(error), abort=not told))
        return self._done()

    def due(self, key: int) -> list[Effect]:
        """The timer of the `Arm` with `key` has expired."""
        action = self._timers.pop(key, None)
        if self.finished or action is None:
            return []
        action()
        return self._done()

    def settled(self, key: int, result: object) -> list[Effect]:
        """The awaitable of the `Begin` with `key` has a result."""
        return self._come_to(key, partial(self._resumed, result=result))

    def failed(self, key: int, error: BaseException) -> list[Effect]:
        """The awaitable of the `Begin` with `key` raised."""
        return self._come_to(key, partial(self._awaited_failed, error=error))

    def _come_to(self, key: int, tell: Callable[[Link, bytes | None], None]) -> list[Effect]:
        if self.asking:
            # It arrived during a call of a filter. The verdict of that call is applied first.
            self._later.append(partial(self._take_outcome, key, tell))
            return []
        self._take_outcome(key, tell)
        return self._done()

    def woken(self, call: object) -> list[Effect]:
        """A filter's `Connection.wake` was called."""
        stage, token = cast("tuple[Stage, object]", call)
        if self.finished:
            return []
        self._later.append(partial(self._wake_stage, stage, token))
        return [] if self.asking else self._done()

    def _wake_stage(self, stage: Stage, token: object) -> None:
        self._wake(stage.up, token)
        self._pass_end(stage.down)

    def _let_be_woken(self, stages: Iterable[Stage]) -> None:
        for stage in stages:
            stage.connection.wake = partial(self._nudge, stage)

    def _nudge(self, stage: Stage, token: object) -> None:
        self._wake_up((stage, token))

    def _take_outcome(self, key: int, tell: Callable[[Link, bytes | None], None]) -> None:
        awaited = self._awaited.pop(key, None)
        if self.finished or awaited is None:
            return
        self._resume(awaited)
        link, paused = awaited.link, awaited.paused
        tell(link, link.take() if link.held and link in paused else None)
        for one in paused:
            self._let_in(one)
            self._pass_end(one)

    def _take_failure(self, key: int, error: BaseException) -> None:
        self._take_outcome(key, partial(self._awaited_failed, error=error))

    def _resumed(self, link: Link, data: bytes | None, result: object) -> None:
        self._tell(link, data, "resumed", result)

    def _awaited_failed(self, link: Link, data: bytes | None, error: BaseException) -> None:
        if callable(getattr(link.stage.filter, "failed", None)):
            self._tell(link, data, "failed", error)
        else:
            self._event = "Await"
            self._fail(link, error, data, f"awaited a result that raised {type(error).__name__}")

    def closed(self, summary: SessionSummary) -> list[Effect]:
        """The session has ended. Call `closed` of each filter once. Returns only `Trouble`."""
        if self._closed:
            return []
        self._closed = self.finished = True
        troubles: list[Effect] = []
        for stage in self._stages:
            try:
                stage.filter.closed(summary)
            except BaseException as error:
                troubles.append(Trouble(stage.name, error, "closed"))
            stage.connection.wake = nobody
            # Break reference cycles, so that stages, links, timers and this chain are freed at once.
            del stage.up, stage.down
        self._timers.clear()
        self._later.clear()
        self._under_way = None
        self._wake_up = nobody
        return troubles

    # Processing

    def _done(self) -> list[Effect]:
        """Come to rest, or as near as others can wait for, and hand out what is to be done."""
        while self._work(MOST_STEPS) and not (self.finished or self._judging):
            if self._later:
                self._later.popleft()()
            elif self._unopened and self._closing is None and self._may_open_behind():
                self._open_behind()
            else:
                break
        if (self._jobs or self._under_way) and not (self.finished or self._judging):
            self._effects.append(GoOn())
            return self._handed_out()
        if self._closing is not None:
            self._judging = False
            self._flush()
            self._finish(self._closing)
        if self.finished:
            # After a failure, queued bytes are not sent. Ends are removed too: `Finish` ends both sides,
            # and a caller could take a single end for the end of the session.
            self._effects = [one for one in self._effects[: self._last] if not isinstance(one, SendEnd)]
        elif not self._judging:
            if not self._dialled:
                self._dial_if_decided()
            if self._connected:
                self._offer(TO_UPSTREAM)
                self._offer(TO_CLIENT)
        return self._handed_out()

    def _handed_out(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    # Filters that are built after the announcement

    def _open(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            if self._closing is not None:
                self._leave_out(stage)
            else:
                self._tell(stage.up, None, "opened", stage.connection, both=True)

    def _may_open_behind(self) -> bool:
        """Whether the client was announced, or will not be: bytes have passed, or the filter is done."""
        announcer = self._stages[-1]
        return self._announced or bool(self._before_them) or announcer.dead or announcer.decided

    def _open_behind(self) -> None:
        """Build and open the waiting filters, and pass them the bytes that have arrived."""
        built = build(self._behind, self._connection)
        self._behind = built.behind
        self._unopened = bool(built.behind)
        self._announced = False
        stages = built.filters
        self._append(stages)
        self._let_be_woken(stages)
        self._undecided += [stage for stage in stages if stage.routes]
        for trouble in built.troubles:
            if isinstance(trouble, Finish):
                self._close(trouble)
            else:
                self._effects.append(trouble)
        if self.finished:
            return
        self._open(stages)
        waiting, self._before_them = self._before_them, []
        for item, replies in waiting:
            if stages:
                self._jobs.append((stages[0].up, item, replies))
            else:
                self._write(TO_UPSTREAM, item, replies)

    # The dial

    def _dial_if_decided(self) -> None:
        for stage in tuple(self._undecided):
            if stage.decided:
                self._undecided.remove(stage)
                if stage.timer is not None:
                    self._disarm(stage.timer)
            elif stage.timer is None:
                stage.timer = self._arm(stage.hold_timeout, partial(self._time_out, stage))
        if self._undecided or self._unopened:
            return
        routes = [stage.route for stage in self._stages if stage.route is not None]
        targets = [
            (stage.route.target, stage.name)
            for stage in self._stages
            if stage.route is not None and stage.route.target is not None
        ]
        permits = [route.permits for route in routes if route.permits is not None]
        target, who = targets[-1] if targets else (None, "")
        self._effects.append(StartDial(target, _all_of(permits), who))
        self._stop_after_dial()

    def _time_out(self, stage: Stage) -> None:
        self._give_up(
            stage.up, f"could not decide within {format_duration(stage.hold_timeout)}", stage.on_timeout
        )
        self._pass_end(stage.up)


def _all_of(permits: list[Callable[[Address], bool]]) -> Callable[[Address], bool] | None:
    """Combine `permits`: an address must be permitted by all of them."""
    if len(permits) < 2:
        return permits[0] if permits else None
    return lambda address: all(permit(address) for permit in permits)
