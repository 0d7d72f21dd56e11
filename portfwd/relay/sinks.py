# -*- test-case-name: tests.relay.test_sinks -*-
"""
The sinks of copies. They perform the `Store` effects of all sessions.

A sink is a file, a recording (a file with times, `portfwd.logs.recording`) or a shadow upstream; see
`portfwd.filters.api.Sink`. It is opened with the first copy, after privileges were dropped. Problems of a
sink do not affect the session: nothing blocks or raises, copies that do not fit are dropped and counted, and
problems are logged at limited rate.

All rules that name the same file share it, and it stays open until the process ends. A shadow belongs to one
session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from attrs import define, field
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.filters.api import Sink
from portfwd.kernel.failures import log_failure
from portfwd.logs import recording
from portfwd.relay.loops import Loops, PassedSession
from portfwd.relay.shadows import Shadow, ShadowPassage, shadow_endpoint
from portfwd.relay.sink_files import COMPLAINT_INTERVAL, SinkFile
from portfwd.upstreams.names import Names
from portfwd.values import Address, counted


@define(eq=False)
class _Recorded:
    """One session in one recording: the missing bytes that have no note yet."""

    file: SinkFile
    lost: int = 0


@define(eq=False)
class _Stored:
    """The sinks of one session."""

    shadows: dict[str, Shadow] = field(factory=dict)
    records: dict[str, _Recorded] = field(factory=dict)


class Sinks:
    """
    The sinks of all sessions.

    :ivar stored: number of bytes passed to sinks.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        names: Names,
        loops: Loops,
        *,
        connect: Callable[[Address, PassedSession], IStreamClientEndpoint] | None = None,
        wall_clock: Callable[[], float] = time.time,
        make_file: Callable[..., SinkFile] = SinkFile,
    ) -> None:
        """
        :param reactor: connects shadows and has their timers.
        :param names: resolves names of shadows.
        :param loops: gets shadows that may be listeners of this process.
        :param connect: makes the endpoint of a shadow; None for `shadow_endpoint`.
        :param wall_clock: returns seconds since the epoch, for recordings.
        """
        self.stored = 0
        self._clock: IReactorTime = reactor
        self._connect = partial(shadow_endpoint, reactor, names, loops) if connect is None else connect
        self._loops = loops
        self._wall_clock = wall_clock
        self._make_file = make_file
        self._files: dict[str, SinkFile] = {}
        self._sessions: dict[int, _Stored] = {}
        self._leaving: set[Shadow] = set()
        self._dropped = 0
        self._complained: dict[str, float] = {}
        self._serve: Final[dict[str, Callable[[int, Sink, bytes], None]]] = {
            "file": self._to_file,
            "record": self._to_record,
        }

    def __repr__(self) -> str:
        shadows = len(self._leaving) + sum(len(stored.shadows) for stored in self._sessions.values())
        return f"<Sinks: {len(self._files)} files, {shadows} shadows, {self.dropped} bytes dropped>"

    @property
    def dropped(self) -> int:
        """Number of lost bytes so far, including the overhead of recordings."""
        return self._dropped + sum(file.dropped for file in self._files.values())

    def store(
        self,
        session: int,
        sink: Sink,
        data: bytes,
        *,
        rule: str = "",
        passages: Sequence[PassedSession] = (),
    ) -> None:
        """
        Pass `data` of a session to `sink`. Never raises.

        :param session: its number in this process.
        :param rule: rule of the session.
        :param passages: the sessions that its client has passed (`portfwd.relay.loops`).
        """
        self.stored += len(data)
        try:
            if sink.kind == "stream":
                self._shadow(session, sink, rule, passages).write(data)
            else:
                self._serve[sink.kind](session, sink, data)
        except BaseException:
            self._dropped += len(data)
            self._failed(f"{sink.kind} {sink.name}", Failure())

    def closed(self, session: int) -> None:
        """A session has ended: finish its shadows. Never raises."""
        stored = self._sessions.pop(session, None)
        if stored is None:
            return
        try:
            for recorded in stored.records.values():
                self._record(session, recorded, recording.closed_line)
            for shadow in stored.shadows.values():
                if not shadow.is_over:
                    self._leaving.add(shadow)
                    shadow.finish()
        except BaseException:
            self._failed(f"session {session}", Failure())

    def reopen(self) -> None:
        """Open all files again, after they were renamed."""
        for file in self._files.values():
            file.reopen()

    def close(self, timeout: float) -> bool:
        """
        Write waiting copies to files within `timeout` seconds, and abort shadows.

        :returns: whether all files are written.
        """
        for stored in self._sessions.values():
            self._leaving.update(shadow for shadow in stored.shadows.values() if not shadow.is_over)
        self._sessions.clear()
        for shadow in tuple(self._leaving):
            shadow.abort()
        deadline = time.monotonic() + timeout
        written = [file.close(max(0.0, deadline - time.monotonic())) for file in self._files.values()]
        return all(written)

    # The kinds

    def _stored(self, session: int) -> _Stored:
        stored = self._sessions.get(session)
        if stored is None:
            stored = self._sessions[session] = _Stored()
        return stored

    def _to_file(self, session: int, sink: Sink, data: bytes) -> None:
        file = self._files.get(sink.name)
        if file is None:
            file = self._files[sink.name] = self._make_file(sink.name, sink.limit, self._complain)
        if data:
            file.write(data)

    def _to_record(self, session: int, sink: Sink, data: bytes) -> None:
        recorded = self._stored(session).records.get(sink.name)
        if recorded is None:
            recorded = _Recorded(self._record_file(sink))
            self._stored(session).records[sink.name] = recorded
        if sink.mark == "opened":
            self._record(session, recorded, lambda at, number: recording.opened_line(at, number, sink.notes))
        elif sink.direction is None:
            raise ValueError("a record wants to know the direction of bytes")
        elif sink.mark == "ended":
            direction = sink.direction
            self._record(session, recorded, lambda at, number: recording.ended_line(at, number, direction))
        else:
            line = recording.data_line(self._wall_clock(), session, sink.direction, data)
            if not self._tell_lost(session, recorded):
                recorded.lost += len(data)
                self._dropped += len(data)
            elif not recorded.file.write(line):
                recorded.lost += len(data)

    def _record_file(self, sink: Sink) -> SinkFile:
        file = self._files.get(sink.name)
        if file is None:
            file = self._files[sink.name] = self._make_file(
                sink.name,
                sink.limit,
                self._complain,
                first=lambda: recording.record_line(self._wall_clock()),
                last=lambda: recording.full_line(self._wall_clock()),
            )
        return file

    def _record(self, session: int, recorded: _Recorded, line: Callable[[float, int], bytes]) -> None:
        if self._tell_lost(session, recorded):
            recorded.file.write(line(self._wall_clock(), session))

    def _tell_lost(self, session: int, recorded: _Recorded) -> bool:
        """Write a note about missing bytes, if there are any."""
        if recorded.lost and recorded.file.write(
            recording.lost_line(self._wall_clock(), session, recorded.lost)
        ):
            recorded.lost = 0
        return not recorded.lost

    def _shadow(self, session: int, sink: Sink, rule: str, passages: Sequence[PassedSession]) -> Shadow:
        shadows = self._stored(session).shadows
        shadow = shadows.get(sink.name)
        if shadow is None:
            if sink.address is None:
                raise ValueError("a stream wants to know where it goes")
            passage = ShadowPassage(passages)
            passage.shadow = shadow = shadows[sink.name] = Shadow(
                self._clock,
                self._connect(sink.address, PassedSession(passage, rule, is_chosen=False, is_copy=True)),
                sink.limit,
                self._lost,
                partial(self._shadow_failed, sink.name),
                partial(self._shadow_over, passage),
            )
        return shadow

    def _shadow_over(self, passage: ShadowPassage, shadow: Shadow) -> None:
        self._leaving.discard(shadow)
        self._loops.left(passage)

    # Problems

    def _lost(self, count: int) -> None:
        self._dropped += count

    def _shadow_failed(self, name: str, problem: str) -> None:
        if self._may_complain(name):
            self._complain(f"shadow {name}: {problem}; {counted(self._dropped, 'byte')} dropped so far")

    def _failed(self, what: str, failure: Failure) -> None:
        if self._may_complain(what.partition(" ")[0]):
            log_failure(self._log, "{what}: a copy could not be stored", failure, what=what)

    def _may_complain(self, about: str) -> bool:
        now = self._clock.seconds()
        if now < self._complained.get(about, now):
            return False
        self._complained[about] = now + COMPLAINT_INTERVAL
        return True

    def _complain(self, text: str) -> None:
        self._log.warn("{text}", text=text)
