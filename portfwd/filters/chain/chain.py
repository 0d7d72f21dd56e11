# -*- test-case-name: tests.filters.chain.test_chain -*-
"""
The chain: gives the verdicts of a session's filters their effect.

It is told what happens (`Chain.received`, `Chain.ended`, `Chain.connected`, …) and
returns what is to be done, a list of `portfwd.filters.chain.effects`. It has no clock,
no socket and no thread; two chains that are told the same return the same.

Order
    Toward the upstream the filters run as listed, toward the client in reverse. What a filter
    returns goes on in order. A `Reply` goes the other way and is seen by the filters nearer the
    side it goes to only. Between the filters there is one queue: a filter is never called
    while a verdict, its own or another's, is taking effect. A result that comes while a filter is being
    called is told after the verdict of that call.

Results
    `IFilter.resumed` gets the result of an `Await`, never an exception. If the awaitable raises, the filter's
    ``failed`` is called; a filter without that method has failed itself, and ``on_error`` decides.

The bytes that a filter was called with
    go where the verdict says. ``None`` passes them at its place in a list. A verdict in which nothing
    speaks of them (no bytes, `Forward`, `Reply`, `Delay` with data, `NeedMore`, `Bypass`, `DROP`,
    `Close`) passes them behind the rest; one with an `Await` keeps them, and they are then what
    `IFilter.resumed` judges. `IFilter.woken` judges none: what is held stays, unless it returns
    `DONE`, `Bypass` or a `NeedMore` with a rest. Where there are no bytes (``opened``,
    ``connected``, ``dial_failed``), `Forward` goes to the upstream and `Reply` to the client.

Announcements
    A filter that is to be asked about a client must not see the load balancer before it. Filters behind one
    whose factory ``announces`` are built and opened when it has announced the client and the relay has judged
    that client (`Judge`, then `Chain.judged`), or when it will not: it is done, or has passed something.

The dial
    waits for every routing or announcing filter: until it routes, or is done with the client's bytes, or its
    time, its bytes or the client's stream is at an end, when its ``on_timeout`` decides. The target
    is that of the filter nearest the upstream which names one; every filter's `permits` must permit
    an address. Before the upstream is connected nothing is written to it, and filters behind the last
    routing one are shown nothing of the client, so that what they say when it is connected
    (a PROXY header) comes first.

Ends
    An end goes through the filters behind the bytes. Delays and awaits hold it up; nothing swallows it.
    What a filter sends behind an end that has passed it is dropped: there is nobody to read it.

Failure
    A filter that raises, or returns what is no verdict, ends the session by an abort, so that the
    truncation shows; with ``on_error`` "bypass" it is left out from then on, as long as it
    altered nothing.

A `Close` in order
    What delays keep goes out at once, through the filters. Only the one that closed is not asked again about
    the direction whose bytes it refused: they are dropped. Both sides end behind that.

Datagrams
    Each is judged as it comes; none is held, though a `Delay` or an `Await` may keep some waiting, at most
    `portfwd.filters.chain.passage.MAX_DATAGRAMS` at a filter. What comes beyond is dropped and counted.

Holding
    is limited by bytes (``max_hold``, then ``on_overflow``) and by time (``hold_timeout``, then
    ``on_timeout``). Where a factory does not say how long, only the dial is limited: a client that types
    slowly is no attack. Time counts from when bytes began to be held, and anew when the filter gets further.
    An `Await` may last for ``hold_timeout`` too.

It refuses to guess: held bytes beyond ``max_hold`` are a failure to decide, if the factory does not differ.
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
from portfwd.values import (
    TO_CLIENT,
    TO_UPSTREAM,
    Address,
    Direction,
    SessionSummary,
    format_duration,
)


def make_chain(
    clauses: Sequence[tuple[str, IFilterFactory]],
    connection: Connection,
    *,
    datagrams: bool = False,
    find_target: Callable[[object], object] | None = None,
) -> Chain | None:
    """
    Build the filters of one connection.

    A factory that raises is told of by `Chain.open`, and ends the session there if its ``on_error`` says so.

    :param clauses: name and factory of each ``filter`` clause, in the rule's order.
    :param find_target: raises `ValueError` for a `Route` that leads nowhere; None: whoever dials will say so.
    :returns: None where every factory stays out of it.
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

    Every method but `watches` and `held` returns what is to be done, in order. The first
    call is `open`, the last one `closed`; after `Finish` the others return nothing.

    :ivar finished: `Finish` was returned.
    :ivar dropped: datagrams for which there was no room.
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
        :param stages: the filters, in the rule's order.
        :param datagrams: `received` gets whole datagrams, of which ``b""`` is one.
        :param troubles: what went wrong while the filters were built, to be told by `open`.
        :param behind: clauses whose filters are built when the last one of `clauses` has announced.
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

    # What happens

    def open(self) -> list[Effect]:
        """The client was accepted."""
        self._open(self._stages)
        return self._done()

    def go_on(self) -> list[Effect]:
        """It is time for what `GoOn` asked for."""
        return [] if self.finished else self._done()

    def judged(self) -> list[Effect]:
        """The relay has done what `Judge` asks, and the client may stay."""
        self._judging = False
        return [] if self.finished else self._done()

    def received(self, direction: Direction, data: bytes) -> list[Effect]:
        """
        Bytes came from the source of `direction`, or one datagram.

        They are those behind what was shown before and what `passed` has told of.
        """
        if self.finished:
            return []
        self._forget_offer(direction)
        self._come(direction, data)
        return self._done()

    def passed(self, direction: Direction, size: int) -> list[Effect]:
        """
        So many bytes of `direction` went by without being shown, as `Unseen` allowed.

        To be called before the next bytes or the end of this direction are told of.
        Where `Unseen` allowed everything it may be left out.
        """
        if self.finished:
            return []
        self._forget_offer(direction)
        for link in self._links[direction]:
            link.bypass = max(0, link.bypass - size)
        return self._done()

    def ended(self, direction: Direction) -> list[Effect]:
        """The source of `direction` ended it."""
        if self.finished or self._source_ended[direction] or self._datagrams:
            return []
        self._source_ended[direction] = True
        self._come(direction, None)
        return self._done()

    def introduction(self) -> bytes:
        """What the filters want an upstream to get before the TLS handshake with it, in their order."""
        return b"".join(
            stage.filter.introduction()
            for stage in self._stages
            if isinstance(stage.filter, Introducing) and not stage.dead
        )

    def connected(self, upstream: Address | None, introduced: bool = False) -> list[Effect]:
        """
        The dial succeeded; what waited for it goes out.

        :param introduced: `introduction` was sent to this upstream.
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
        # Whether bytes came before that or after, the answers to them come after the filters' first words.
        for stage in self._stages:
            stage.up.shut = False
            self._let_in(stage.up)
            self._work()
        if self._closing is None:
            self._go_after_dial()
        return self._done()

    def dial_failed(self, error: DialError) -> list[Effect]:
        """
        No upstream could be reached: the filters may tell the client, then the session is over.

        It ends in order if the client was told anything, else by an abort, as without filters.
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
        """The time of the `Arm` with `key` has come."""
        action = self._timers.pop(key, None)
        if self.finished or action is None:
            return []
        action()
        return self._done()

    def settled(self, key: int, result: object) -> list[Effect]:
        """The awaitable of the `Begin` with `key` has this result."""
        return self._come_to(key, partial(self._resumed, result=result))

    def failed(self, key: int, error: BaseException) -> list[Effect]:
        """The awaitable of the `Begin` with `key` raised."""
        return self._come_to(key, partial(self._awaited_failed, error=error))

    def _come_to(self, key: int, tell: Callable[[Link, bytes | None], None]) -> list[Effect]:
        if self.asking:
            # The filter that is being asked let it come: its verdict is the first.
            self._later.append(partial(self._take_outcome, key, tell))
            return []
        self._take_outcome(key, tell)
        return self._done()

    def woken(self, call: object) -> list[Effect]:
        """A filter wants to be woken: `call` is what the connection's `wake` was given."""
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
        """The session is over, whoever ended it: each filter is told once. Only `Trouble` comes of it."""
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
            # A stage and its links must not wait for the garbage collector, nor must timers and this chain.
            del stage.up, stage.down
        self._timers.clear()
        self._later.clear()
        self._under_way = None
        self._wake_up = nobody
        return troubles

    # Coming to rest

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
            # What was about to go when something broke goes no more; nor do ends, of which one could be
            # taken for the last, and the session for over: `Finish` ends both sides.
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

    # Filters, and those that are built when the client was announced

    def _open(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            if self._closing is not None:
                self._leave_out(stage)
            else:
                self._tell(stage.up, None, "opened", stage.connection, both=True)

    def _may_open_behind(self) -> bool:
        """Whether the client was announced, or will not be: something has passed, or the filter is done."""
        announcer = self._stages[-1]
        return self._announced or bool(self._before_them) or announcer.dead or announcer.decided

    def _open_behind(self) -> None:
        """Build and open the filters that had to wait, and give them what has come."""
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
    """What permits an address that all of `permits` permit."""
    if len(permits) < 2:
        return permits[0] if permits else None
    return lambda address: all(permit(address) for permit in permits)
