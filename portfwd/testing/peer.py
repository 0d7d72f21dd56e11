# -*- test-case-name: tests.testing.test_peers -*-
"""
One side of a conversation: its script, its socket, and the records of sent and received bytes.

`portfwd.testing.peers` has the peers that connect or accept, and runs conversations.
"""

from __future__ import annotations

import enum
import errno
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import Final

from portfwd.testing import script
from portfwd.testing.addresses import address_of, set_buffers
from portfwd.testing.data import Pattern, Received, Sent, Source
from portfwd.values import Address, counted

#: Default maximum seconds of a step. It is large, because it expires only in failures.
STEP_DEADLINE: Final = 20.0
#: Largest single write and read, 1 MiB and 256 KiB.
_WRITE: Final = 1024 * 1024
_READ: Final = 256 * 1024
#: Maximum seconds until a waiting peer notices that another one has failed.
LOOK_AROUND: Final = 0.1
#: Errors of a connection that is broken and not ended.
_BROKEN: Final = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.ECONNABORTED})


class Incoming(enum.Enum):
    """How the reading side of a peer ended."""

    OPEN = "still open"
    END = "end"
    RESET = "reset"


class StepFailed(AssertionError):
    """A step failed; the text says what happened instead."""


class Abandoned(Exception):
    """Another peer of the conversation failed: stop this one."""


class Marks:
    """The marks that the peers of one conversation have set, and whether it was abandoned."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._abandoned = False
        self._change = threading.Condition()

    def say(self, name: str) -> None:
        """Set the mark `name`."""
        with self._change:
            self._said.add(name)
            self._change.notify_all()

    def said(self, name: str) -> bool:
        """Whether the mark `name` is set."""
        with self._change:
            return name in self._said

    def hear(self, name: str, seconds: float) -> bool:
        """Wait until the mark `name` is set or the conversation is abandoned; False after `seconds`."""
        with self._change:
            return self._change.wait_for(lambda: name in self._said or self._abandoned, seconds)

    def abandon(self) -> None:
        """A peer failed: end all waits."""
        with self._change:
            self._abandoned = True
            self._change.notify_all()

    @property
    def abandoned(self) -> bool:
        """Whether a peer failed."""
        with self._change:
            return self._abandoned


class Peer:
    """
    One side of a conversation; `Dialer` and `ScriptedListener.peer` make them.

    :param steps: `script.Step` values or lines of text.
    :param name: for reports.
    :param seed: selects the stream of this peer; each session of a test should have its own.
    :param receives: the bytes that this peer should receive. None: those that the other peer sends. A test of
        a filter that changes bytes needs another source.
    :param receive_buffer: ``SO_RCVBUF`` of the connection, bytes.
    :param send_buffer: ``SO_SNDBUF`` of the connection, bytes.
    :param after: connect or accept when another peer has set this mark.

    :ivar sent: the record of the bytes that the kernel accepted.
    :ivar received: the record of the received bytes.
    :ivar incoming: how the reading side ended.
    :ivar local: this side's address, once connected.
    :ivar remote: the other side's address, once connected.
    """

    def __init__(
        self,
        steps: Sequence[script.Step | str],
        *,
        name: str,
        seed: int,
        receives: Source | None = None,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
        after: str | None = None,
    ) -> None:
        self.name = name
        self.steps = tuple(script.parse_step(step) if isinstance(step, str) else step for step in steps)
        self.sent = Sent(Pattern(seed))
        self.received = Received(receives)
        self.incoming = Incoming.OPEN
        self.local: Address | None = None
        self.remote: Address | None = None
        self.failure: BaseException | None = None
        self._buffers = (receive_buffer, send_buffer)
        self._after = after
        # Test data, not a secret.
        self._random = random.Random(seed)  # noqa: S311
        self._socket: socket.socket | None = None
        self._broken = False
        self._reading = True
        self._consumed = 0
        self._at = -1
        self._marks = Marks()
        self._step_deadline = STEP_DEADLINE

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name!r} sent {self.sent.count}, "
            f"received {self.received.count}, incoming {self.incoming.value}>"
        )

    def report(self) -> str:
        """Return the script with its progress: ``+`` done, ``!`` failed or stopped, ``.`` not reached."""
        sent, received = self.sent.count, self.received.count
        lines = [f"{self.name}: sent {sent}, received {received}, {self.incoming.value}"]
        for number, step in enumerate(self.steps):
            if number < self._at or (number == self._at and self.failure is None):
                mark = "+"
            else:
                mark = "!" if number == self._at else "."
            lines.append(f"  {mark} {step}")
        if self.failure is not None and not isinstance(self.failure, Abandoned):
            where = "connecting" if self._at < 0 else f"'{self.steps[self._at]}'"
            lines.append(f"  {where}: {self.failure}")
        return "\n".join(lines)

    # -- running ---------------------------------------------------------------

    def run(self, marks: Marks, step_deadline: float) -> None:
        """Connect and perform all steps; an exception is kept in `failure` and abandons the conversation."""
        self._marks = marks
        self._step_deadline = step_deadline
        try:
            until = time.monotonic() + step_deadline
            if self._after is not None and not marks.hear(self._after, step_deadline):
                raise StepFailed(f"nobody said {self._after} in time")
            if marks.abandoned:
                raise Abandoned
            self._socket = self._open(until)
            self._set_up(self._socket)
            for number, step in enumerate(self.steps):
                self._at = number
                limit = step_deadline if step.within is None else step.within
                self._perform(step, time.monotonic() + limit)
        except BaseException as error:
            # `converse` raises it.
            self.failure = error
            marks.abandon()

    def close(self) -> None:
        """Close the socket if the script has not."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self, until: float) -> socket.socket:
        raise NotImplementedError

    def _set_up(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        set_buffers(connection, *self._buffers)
        self.local = address_of(connection.getsockname())
        try:
            self.remote = address_of(connection.getpeername())
        except OSError:
            # Reset after the handshake: a step of the script will detect it.
            self.remote = None

    def _perform(self, step: script.Step, until: float) -> None:
        match step:
            case script.Send(what=bytes(what)):
                self._send(self.sent.plan_literal(what), until, step.writes_of, step.may_fail)
            case script.Send(what=int(what)):
                self._send_pattern(what, until, step.writes_of, step.may_fail)
            case script.SendUpTo(total=total):
                self._send_pattern(total - self.sent.count, until, None, may_fail=False)
            case script.Fill():
                self._fill(until)
            case script.Drip(count=count, every=every):
                self._drip(count, every)
            case script.ScriptEnd():
                self._connection.shutdown(socket.SHUT_WR)
            case script.ScriptReset():
                self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close()
            case script.ScriptClose():
                self.close()
            case script.StopReading():
                self._reading = False
            case script.ResumeReading():
                self._reading = True
            case script.Expect(what=what):
                self._expect(what, until)
            case script.ExpectNothing(seconds=seconds):
                self._expect_nothing(time.monotonic() + seconds)
            case script.ExpectClose(kind=kind, rest=rest):
                self._expect_close(kind, rest, until)
            case script.Say(name=name):
                self._marks.say(name)
            case script.Hear(name=name):
                self._hear(name, until)
            case _:
                raise StepFailed(f"peers do not know the step {step!r}")

    # -- the socket --------------------------------------------------------------

    @property
    def _connection(self) -> socket.socket:
        if self._socket is None:
            raise StepFailed("this peer has closed its socket already")
        return self._socket

    def _turn(self, until: float, *, writing: bool = False) -> bool:
        """
        Wait once for events, and read available bytes.

        :returns: False if `until` has passed.
        """
        if self._marks.abandoned:
            raise Abandoned
        connection = self._connection
        reading = self._reading and self.incoming is Incoming.OPEN
        wait = min(LOOK_AROUND, until - time.monotonic())
        if wait <= 0:
            return False
        poll = select.poll()
        poll.register(connection, (select.POLLIN if reading else 0) | (select.POLLOUT if writing else 0))
        happened = 0
        for _, events in poll.poll(wait * 1000):
            happened |= events
        if reading and happened & ~select.POLLOUT:
            self._read(connection)
        elif happened & select.POLLERR:
            self._look_for_reset(connection)
        elif happened & select.POLLHUP and not writing:
            # Both directions are over: poll would return at once every time, and nothing can arrive.
            self._marks.hear("", wait)
        return True

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in _BROKEN:
                raise
            self._broken = True
            self.incoming = Incoming.RESET
            return
        if data:
            self.received.add(data)
        else:
            # Reading SO_ERROR has cleared the error, so this may be a reset that looks like an end.
            self.incoming = Incoming.RESET if self._broken else Incoming.END

    def _look_for_reset(self, connection: socket.socket) -> None:
        """
        Check for a reset without reading.

        After an end, ``recv`` always returns 0, and a peer that has stopped reading must not read. The kernel
        reports the error once, so it is stored.
        """
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in _BROKEN:
            self._broken = True

    def _write(self, data: memoryview) -> int:
        """Write `data`; return the number of bytes that the kernel accepted, 0 if it is full."""
        try:
            count = self._connection.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno in _BROKEN:
                self._broken = True
                raise StepFailed(f"the connection does not take more: {error.strerror}") from error
            raise
        self.sent.confirm(data[:count])
        return count

    # -- the steps -----------------------------------------------------------------

    def _send_pattern(
        self, size: int, until: float, writes_of: tuple[int, int] | None, may_fail: bool
    ) -> None:
        goal = self.sent.count + size
        while (left := goal - self.sent.count) > 0:
            if not self._send(self.sent.plan(min(left, _WRITE)), until, writes_of, may_fail):
                return

    def _send(self, data: bytes, until: float, writes_of: tuple[int, int] | None, may_fail: bool) -> bool:
        """Write all of `data`; False if the connection failed and `may_fail` is set."""
        view = memoryview(data)
        while view:
            if not self._turn(until, writing=True):
                raise StepFailed(f"{counted(len(view), 'byte')} of this write not taken in time")
            piece = view if writes_of is None else view[: self._random.randint(*writes_of)]
            try:
                view = view[self._write(piece) :]
            except StepFailed:
                if may_fail:
                    return False
                raise
        return True

    def _fill(self, until: float) -> None:
        quiet = time.monotonic() + script.BLOCKED_AFTER
        while (now := time.monotonic()) < quiet:
            if now > until:
                raise StepFailed(f"after {counted(self.sent.count, 'byte')} the socket still takes more")
            self._turn(quiet, writing=True)
            data = self.sent.plan(_WRITE)
            if self._write(memoryview(data)):
                quiet = time.monotonic() + script.BLOCKED_AFTER

    def _drip(self, count: int, every: float) -> None:
        for _ in range(count):
            self._send(self.sent.plan(1), time.monotonic() + self._step_deadline, None, may_fail=False)
            pause = time.monotonic() + every
            while self._turn(pause):
                pass

    def _hear(self, name: str, until: float) -> None:
        while not self._marks.said(name):
            if self._socket is None or self.incoming is not Incoming.OPEN or not self._reading:
                if not self._marks.hear(name, until - time.monotonic()):
                    raise StepFailed("nobody said so in time")
                if self._marks.abandoned:
                    raise Abandoned
            elif not self._turn(until):
                raise StepFailed("nobody said so in time")

    def _expect(self, what: int | bytes, until: float) -> None:
        size = what if isinstance(what, int) else len(what)
        goal = self._consumed + size
        while self.received.count < goal:
            if self.incoming is not Incoming.OPEN:
                raise StepFailed(f"{self.incoming.value} after {self._came()} of {counted(size, 'byte')}")
            if not self._turn(until):
                raise StepFailed(f"only {self._came()} of {counted(size, 'byte')} came in time")
        if isinstance(what, bytes):
            got = self.received.slice(self._consumed, size)
            if got != what:
                raise StepFailed(f"got {got!r}")
        self._consumed = goal

    def _came(self) -> int:
        """The number of received bytes that no step has consumed."""
        return self.received.count - self._consumed

    def _expect_nothing(self, until: float) -> None:
        before = self.incoming
        while self._turn(until):
            if self._came():
                raise StepFailed(f"{counted(self._came(), 'byte')} came")
            if self.incoming is not before or self._broken:
                raise StepFailed(f"{'reset' if self._broken else self.incoming.value} came")

    def _expect_close(self, kind: str, rest: bool, until: float) -> None:
        while not self._is_over(kind):
            if not rest and self._came():
                raise StepFailed(f"{counted(self._came(), 'byte')} came first")
            if not self._turn(until):
                raise StepFailed(f"it did not come in time; incoming is {self.incoming.value}")
        if not rest and self._came():
            raise StepFailed(f"{counted(self._came(), 'byte')} came first")
        self._consumed = self.received.count
        found = "reset" if self.incoming is not Incoming.END or kind == "reset" else "end"
        if kind not in ("close", found):
            raise StepFailed(f"{found} came instead, after {counted(self.received.count, 'byte')}")

    def _is_over(self, kind: str) -> bool:
        """Whether the other side has ended; bytes before a reset are read first, unless reading stopped."""
        if self.incoming is Incoming.OPEN:
            return self._broken and not self._reading
        return self.incoming is Incoming.RESET or self._broken or kind != "reset"
