"""
A session under any sequence of events: a state machine that Hypothesis drives.

Streams may do whatever `Stream` allows, in any order, answer at once or a turn
later, and raise at any request. Whatever happens: no exception leaves the
session, its states follow the table, it says once how it ended, and in the end
nothing of it is left.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import ConnectRefused, ConnectTimedOut, OutOfResources
from portfwd.relay.live import LiveRule
from portfwd.relay.states import TRANSITIONS, State
from portfwd.rules.model import AclEntry, OnDeny, Options
from portfwd.streams.stream import Loss
from portfwd.values import CloseReason
from tests.relay.fakes import FakeDial, FakeStream, Fault, SessionLines, a_live_rule

REQUESTS = ("own", "join", "start", "end", "close", "abort", "discard", "undelivered", "summary")
#: Longer than every limit together.
FOREVER = 100_000.0

streams = st.fixed_dictionaries({"later": st.booleans(), "unsent": st.integers(0, 3)})
limits = st.sampled_from([0.0, 0.01, 1.0, 60.0])


class SessionMachine(RuleBasedStateMachine):
    """One session and everything that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.lines = SessionLines()
        self.dials: list[FakeDial] = []
        self.closed_calls = 0
        self.upstream: FakeStream | None = None
        self.faults_set = False
        self.logged: list[BaseException] = []
        globalLogPublisher.addObserver(self.observe)
        self.patcher = mock.patch.object(
            LiveRule, "dial", lambda rule, owner, **named: self.make_dial(rule, owner, **named)
        )
        self.patcher.start()
        self.states: list[State] = []

    def observe(self, event: Any) -> None:
        """Keep the failures that are logged."""
        if "log_failure" in event:
            self.logged.append(event["log_failure"].value)

    def make_dial(self, *arguments: Any, **named: Any) -> FakeDial:
        """What the session dials with."""
        self.dials.append(FakeDial(*arguments, **named))
        return self.dials[-1]

    def closed(self) -> None:
        """The session says that its sockets are gone."""
        self.closed_calls += 1

    @initialize(
        stream=streams,
        denied=st.booleans(),
        on_deny=st.sampled_from(OnDeny),
        idle=st.none() | limits,
        half_close=limits,
        linger=limits,
        lost_before=st.none() | st.sampled_from(Loss),
        fault=st.sampled_from((None,) * 20 + REQUESTS),
    )
    def accept(
        self,
        stream: dict[str, Any],
        denied: bool,
        on_deny: OnDeny,
        idle: float | None,
        half_close: float,
        linger: float,
        lost_before: Loss | None,
        fault: str | None,
    ) -> None:
        """A client comes."""
        options = Options(idle=idle, half_close=half_close, linger=linger, on_deny=on_deny)
        access = [AclEntry(False, "192.0.2.7")] if denied else []
        live = a_live_rule(self.clock, self.lines, options, access)
        self.rule = live
        self.client = self.make_stream(stream, fault)
        self.client.lost_before = lost_before
        self.session = live.accept(self.client, self.closed)

    def make_stream(self, drawn: dict[str, Any], fault: str | None) -> FakeStream:
        """A stream as drawn."""
        made = FakeStream(self.clock, later=drawn["later"])
        made.unsent = drawn["unsent"]
        if fault is not None:
            made.faults.add(fault)
            self.faults_set = True
        return made

    @property
    def there(self) -> list[FakeStream]:
        """The streams that are not lost and owned by the session."""
        both = [self.client] + ([] if self.upstream is None else [self.upstream])
        return [stream for stream in both if not stream.is_lost]

    def pick(self, index: int) -> FakeStream | None:
        """One of them."""
        return self.there[index % len(self.there)] if self.there else None

    # The dial

    @property
    def dialling(self) -> bool:
        """Whether a dial waits for its outcome."""
        return bool(self.dials) and self.session.state is State.DIALING

    @precondition(lambda self: self.dialling)
    @rule(
        stream=streams,
        lost_before=st.sampled_from((None,) * 10 + tuple(Loss)),
        fault=st.sampled_from((None,) * 20 + REQUESTS),
    )
    def dial_succeeds(self, stream: dict[str, Any], lost_before: Loss | None, fault: str | None) -> None:
        """The upstream is reached."""
        self.upstream = self.make_stream(stream, fault)
        self.upstream.lost_before = lost_before
        self.dials[0].succeeds(self.upstream)

    @precondition(lambda self: self.dialling)
    @rule(problem=st.sampled_from([ConnectRefused("x"), ConnectTimedOut("x"), OutOfResources("x")]))
    def dial_fails(self, problem: Any) -> None:
        """No target is reached."""
        self.dials[0].fails(problem)

    @precondition(lambda self: self.dialling)
    @rule()
    def dial_will_not_be_cancelled(self) -> None:
        """The dial raises when it is cancelled."""
        self.dials[0].fault = self.faults_set = True

    # Streams

    @rule(index=st.integers(0, 1))
    def speaks(self, index: int) -> None:
        """Bytes come."""
        stream = self.pick(index)
        if stream is not None:
            stream.speaks()

    @rule(index=st.integers(0, 1))
    def ends(self, index: int) -> None:
        """A peer ends."""
        stream = self.pick(index)
        if stream is not None and stream.reading and not stream.has_ended:
            stream.ends()

    @rule(index=st.integers(0, 1), count=st.integers(1, 3))
    def takes(self, index: int, count: int) -> None:
        """A peer takes bytes that waited for it."""
        stream = self.pick(index)
        if stream is not None:
            stream.takes(count)

    @rule(index=st.integers(0, 1), count=st.integers(1, 3))
    def stands(self, index: int, count: int) -> None:
        """A peer takes no bytes for now."""
        stream = self.pick(index)
        if stream is not None:
            stream.unsent += count

    @rule(index=st.integers(0, 1))
    def refuses(self, index: int) -> None:
        """A write fails."""
        stream = self.pick(index)
        if stream is not None and stream.is_owned:
            stream.refuses()

    @rule(index=st.integers(0, 1), how=st.sampled_from(Loss))
    def loses(self, index: int, how: Loss) -> None:
        """A connection is gone."""
        stream = self.pick(index)
        if stream is not None:
            stream.loses(how)

    @rule(index=st.integers(0, 1), request=st.sampled_from(REQUESTS))
    def will_raise(self, index: int, request: str) -> None:
        """A stream is broken."""
        stream = self.pick(index)
        if stream is not None:
            stream.faults.add(request)
            self.faults_set = True

    # Everything else

    @rule(seconds=st.sampled_from([0.0, 0.002, 0.1, 1.0, 60.0, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        """Timers fire."""
        self.clock.advance(seconds)

    @rule(reason=st.sampled_from([CloseReason.KILLED, CloseReason.DRAIN]))
    def killed(self, reason: CloseReason) -> None:
        """An operator, or the drain deadline."""
        self.session.kill(reason)

    # What always holds

    @invariant()
    def states_follow_the_table(self) -> None:
        """From each state the session went where the table lets it."""
        state = self.session.state
        if self.states and self.states[-1] is not state:
            reachable, ahead = set(), {self.states[-1]}
            while ahead:
                reachable |= ahead
                ahead = {after for before in ahead for after in TRANSITIONS[before]} - reachable
            assert state in reachable, (self.states, state)
        self.states.append(state)

    @invariant()
    def reason_is_fixed_with_closing(self) -> None:
        """There is a reason exactly when the session closes or has closed."""
        closing = self.session.state in (State.CLOSING, State.CLOSED)
        assert (self.session.reason is not None) == closing

    @invariant()
    def one_line(self) -> None:
        """One closing line, one call, exactly when the session is closed; then nothing is left of it."""
        over = self.session.state is State.CLOSED
        assert len(self.lines.closed_lines) == over
        assert self.closed_calls == over
        assert len(self.rule.sessions) == (not over)
        if over:
            assert self.lines.last.reason is self.session.reason

    @invariant()
    def nothing_is_asked_of_the_lost(self) -> None:
        """A stream that is lost is left alone."""
        assert self.client.asked_too_late == []
        assert self.upstream is None or self.upstream.asked_too_late == []

    @invariant()
    def mistakes_are_those_of_streams(self) -> None:
        """Mistakes are logged where a stream or a dial raised, and nowhere else."""
        assert all(isinstance(one, Fault) for one in self.logged), self.logged
        assert self.faults_set or not self.logged

    def teardown(self) -> None:
        """Whatever happened, a kill and some time bring every session to its end."""
        try:
            if hasattr(self, "session"):
                for _ in range(2):
                    self.session.kill(CloseReason.KILLED)
                    self.clock.advance(0.0)
                    for _ in range(200):
                        self.clock.advance(1.0)
                assert self.session.state is State.CLOSED, self.session
                self.one_line()
                self.clock.advance(FOREVER)
                assert self.clock.getDelayedCalls() == []
                assert self.rule.limits is None or repr(self.rule.limits).endswith(" 0 in>")
                self.mistakes_are_those_of_streams()
        finally:
            self.patcher.stop()
            globalLogPublisher.removeObserver(self.observe)


class AnyOrderTests(SynchronousTestCase):
    """The machine, run by trial."""

    def test_any_sequence(self) -> None:
        """No sequence of events leaves a session that is neither open nor closed once."""
        from hypothesis.stateful import run_state_machine_as_test

        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            SessionMachine,
            settings=settings(
                max_examples=150,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        self.flushLoggedErrors(Fault)
