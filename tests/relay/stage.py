"""
A stage: one forwarder with every relay, on a reactor that the test turns, and scripted peers.

Everything happens in one thread. Time is the test's: it stands still until `Stage.settle` moves
it, so a limit of a minute takes no minute. "Settled" means that in many turns, and after some of that
time, nobody saw anything: no byte, no end, no session closed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Sequence
from typing import Any, cast

from attrs import define, field, frozen
from twisted.internet.epollreactor import EPollReactor

from portfwd.kernel.sockets import reset_on_close
from portfwd.rules import parse
from portfwd.service.run.forwarder import Forwarder
from portfwd.values import CloseReason, SessionSummary, Side

#: Every way to move bytes; ``auto`` copies little and splices bulk.
KINDS = ("pair", "copy", "splice", "auto")

#: Relays with a filter: which moves bytes, and which filter sees them.
FILTERED = ("pair-pass", "copy-pass", "auto-pass", "pair-done", "splice-done", "auto-done", "auto-blind")

#: What stands beneath a rule with that filter.
FILTER_LINES = {
    "pass": "\n    filter python:tests.filters.passing.PassThrough",
    "done": "\n    filter python:tests.filters.passing.DoneAtOnce",
    "blind": "\n    filter python:tests.filters.passing.Blind",
    "close": "\n    filter python:tests.filters.passing.Closer",
}

#: The sockets a session may be made of.
FAMILIES = ("tcp", "unix")

#: Of each socket buffer, before the kernel doubles it: what is more than a few of these
#: stops at a stopped reader. Not below a segment of the loopback, which would make TCP slow.
BUFFER = 65536

#: Bytes that fit in the sockets before a stopped reader, so that every relay has delivered them.
FITS = 32768

#: Turns in which nothing is seen that show that nothing goes on.
QUIET_TURNS = 8

#: Seconds that pass, in two halves, while nothing is seen: enough for a look at a send queue.
LULL = 0.25

#: Turns after which a stage that does not settle is given up.
MOST_TURNS = 5_000

#: All that a peer may send.
MOST_BYTES = 1 << 20


def _stream_of(side: Side) -> memoryview:
    """What a peer sends: nowhere the same, and not the other peer's."""
    return memoryview(hashlib.shake_128(side.value.encode()).digest(MOST_BYTES))


STREAMS = {side: _stream_of(side) for side in Side}


class TurnedReactor(EPollReactor):
    """A reactor of the test's own, never installed and never run, with the test's time."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__()

    def seconds(self) -> float:
        return self.now

    def dispose(self) -> None:
        """Release what a reactor keeps to itself for its whole life."""
        self.removeAll()
        for waker in list(self._internalReaders):
            waker.connectionLost(None)
        self._poller.close()


class Peer:
    """
    One end of a conversation.

    :ivar wanted: bytes that it wants to have sent.
    :ivar sent: those that its kernel took.
    :ivar received: every byte that came.
    :ivar most: bytes after which it stops reading; None: it does not.
    :ivar seen: ``open``, ``end`` or ``reset``: how what it receives goes on.
    :ivar broken: the connection was reset after its end had come, or while nothing was read.
    :ivar gone: it reset or closed the connection itself.
    """

    def __init__(self, side: Side, sock: socket.socket | None) -> None:
        self.side = side
        self.socket = sock
        self.wanted = 0
        self.sent = 0
        self.received = bytearray()
        self.reading = True
        self.most: int | None = None
        self.seen = "open"
        self.broken = False
        self.ended = False
        self.gone = False
        self._end_out = False
        self._told_gone = False
        self._urgent: list[int] = []

    # What a script asks

    def send(self, count: int) -> None:
        """Send that much more, as the kernel takes it."""
        if not self.ended and not self.gone:
            self.wanted = min(self.wanted + count, MOST_BYTES)

    def end(self) -> None:
        """FIN behind what was sent; reading goes on."""
        self.ended = True

    def stop(self) -> None:
        """Read no more for now."""
        self.reading = False

    def resume(self) -> None:
        """Read again."""
        self.reading = True
        self.most = None

    def crawl(self, count: int) -> None:
        """Read that much, then stop again."""
        self.reading = True
        self.most = count

    def reset(self) -> None:
        """RST; a unix socket is closed, which is all it knows."""
        self.gone = True
        if self.socket is not None:
            if self.socket.family != socket.AF_UNIX:
                reset_on_close(self.socket)
            self.socket.close()

    def close(self) -> None:
        """Close, as a process does that exits: an end, or a reset if bytes are unread."""
        self.gone = self.ended = True
        self.wanted = self.sent
        if self.socket is not None:
            self.socket.close()

    def urgent(self, count: int) -> None:
        """Send that much more, of which the last byte is urgent."""
        if count and not self.ended and not self.gone and self.wanted + count <= MOST_BYTES:
            self.wanted += count
            self._urgent.append(self.wanted - 1)

    # What goes on

    @property
    def is_there(self) -> bool:
        """Whether it is connected and has not gone."""
        return self.socket is not None and not self.gone

    def act(self) -> bool:
        """Send and read what can be; say whether anything happened."""
        sock = self.socket
        if sock is None or self.gone:
            return False
        return self._write(sock) | self._read(sock)

    def _write(self, sock: socket.socket) -> bool:
        before = self.sent
        while self.sent < self.wanted and not self.broken and self.seen != "reset":
            try:
                self.sent += self._send_some(sock)
            except BlockingIOError:
                break
            except OSError as problem:
                self.broken = True
                self._told_gone = problem.errno == errno.ECONNRESET
                return True
        if self.ended and not self._end_out and (self.sent == self.wanted or self.broken):
            self._end_out = True
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # reset before: the read says so
            return True
        return self.sent != before

    def _send_some(self, sock: socket.socket) -> int:
        """One ``send``, which stops before an urgent byte or is one."""
        ahead = [place for place in self._urgent if place >= self.sent]
        if ahead and ahead[0] == self.sent:
            return sock.send(STREAMS[self.side][self.sent : self.sent + 1], socket.MSG_OOB)
        return sock.send(STREAMS[self.side][self.sent : ahead[0] if ahead else self.wanted])

    def _read(self, sock: socket.socket) -> bool:
        if self.seen == "end" and not self.broken:
            # Nothing more is to be read, but a reset may still come.
            self.broken = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
            return self.broken
        happened = False
        while self.reading and self.seen == "open":
            if self.most == 0:
                self.reading = False
                break
            try:
                data = sock.recv(1 << 18 if self.most is None else self.most)
            except BlockingIOError:
                break
            except OSError:
                self.seen = "reset"
                return True
            happened = True
            if data:
                self.received += data
                if self.most is not None:
                    self.most -= len(data)
                if sock.family != socket.AF_UNIX:
                    # Acknowledge now: the forwarder looks at its send queue.
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            else:
                # A reset that a write was told of leaves reads to drain and return nothing.
                self.seen = "reset" if self._told_gone else "end"
        return happened


@frozen
class Outcome:
    """
    What became of one session.

    :ivar held: bytes that were under way to a stopped reader when a connection broke, at the most.
    :ivar held_end: the same when the first end was sent.
    :ivar relay: the kind of relay, as the log names it.
    :ivar wanted: what each side sent, or wanted to.
    :ivar ended: whether it ended.
    """

    received: dict[Side, bytes]
    seen: dict[Side, str]
    broken: dict[Side, bool]
    wanted: dict[Side, int]
    ended: dict[Side, bool]
    reason: CloseReason | None
    ended_first: Side | None
    relay: str = field(eq=False)
    summary: SessionSummary | None = field(eq=False)
    held: int = field(eq=False)
    held_end: int = field(eq=False)


@define(eq=False)
class Session:
    """A conversation under way: the two peers and the closing line, once there is one."""

    name: str
    client: Peer
    upstream: Peer
    line: SessionSummary | None = None
    held: int = 0
    held_end: int | None = None
    #: Bytes that a filter adds.
    added: int = 0

    def peer(self, side: Side) -> Peer:
        """That side's."""
        return self.client if side is Side.CLIENT else self.upstream

    def under_way(self) -> int:
        """Bytes that stopped readers keep from arriving."""
        return self.added + max(
            peer.sent - len(other.received)
            for peer, other in ((self.client, self.upstream), (self.upstream, self.client))
        )

    def do(self, side: Side, act: str, count: int = 0) -> None:
        """One step of a script; what the side cannot do any more is passed over."""
        peer = self.peer(side)
        if not peer.is_there:
            return
        if act in ("reset", "close"):
            self.held = max(self.held, self.under_way())
        if act in ("reset", "close", "end") and self.held_end is None:
            self.held_end = self.under_way()
        if act == "send":
            peer.send(count)
        elif act == "crawl":
            peer.crawl(count)
        elif act == "urgent":
            peer.urgent(count)
        else:
            getattr(peer, act)()

    def outcome(self) -> Outcome:
        """How it ended, or stands."""
        peers = (self.client, self.upstream)
        line = self.line
        return Outcome(
            received={peer.side: bytes(peer.received) for peer in peers},
            seen={peer.side: peer.seen for peer in peers},
            broken={peer.side: peer.broken for peer in peers},
            wanted={peer.side: peer.wanted for peer in peers},
            ended={peer.side: peer.ended for peer in peers},
            reason=line.reason if line is not None else None,
            ended_first=line.ended_first if line is not None else None,
            relay=line.relay if line is not None else "",
            summary=line,
            held=self.held,
            held_end=self.held_end or 0,
        )


class Stage:
    """The forwarder, its reactor, and where upstreams are dialled."""

    wants_opened = False
    wants_closed = True

    def __init__(self, options: str = "", lines: str = "", kinds: Sequence[str] = KINDS + FILTERED) -> None:
        """
        :param options: of every rule, in the words of rules files.
        :param lines: that stand above the rules, and hold for all of them.
        :param kinds: of `KINDS` and `FILTERED`.
        """
        self.reactor = TurnedReactor()
        self.sessions: list[Session] = []
        self._closed: list[SessionSummary] = []
        self._listening: dict[str, socket.socket] = {}
        self._names: dict[str, str] = {}
        text = [lines] if lines else []
        buffers = f"buffer=8KiB pipe=64KiB sndbuf={BUFFER} rcvbuf={BUFFER}"
        for family in FAMILIES:
            name = f"\0portfwd-{os.getpid()}-{id(self)}"
            where: Any = ("127.0.0.1", 0) if family == "tcp" else f"{name}-target"
            listening = socket.socket(socket.AF_INET if family == "tcp" else socket.AF_UNIX)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                listening.setsockopt(socket.SOL_SOCKET, option, BUFFER)
            listening.bind(where)
            listening.listen(100)
            listening.setblocking(False)
            self._listening[family] = listening
            for kind in kinds:
                if family == "tcp":
                    ends = ("127.0.0.1:0", f"127.0.0.1:{listening.getsockname()[1]}")
                else:
                    ends = (f"unix:@{name[1:]}-{kind}", f"unix:@{name[1:]}-target")
                text += self.rules(family, kind, *ends, f"{buffers} {options}")
        ruleset = parse("\n".join(text) + "\n", "stage.conf")
        self.forwarder = Forwarder(cast(Any, self.reactor), ruleset, self)
        self.forwarder.startService()
        self._connected: set[str] = set()

    def close(self) -> None:
        """End everything."""
        self.forwarder.cut(CloseReason.KILLED)
        self.forwarder.stopService()
        for _ in range(20):
            self.reactor.now += LULL
            self.reactor.iterate(0)
        for session in self.sessions:
            session.client.close()
            session.upstream.close()
        for listening in self._listening.values():
            listening.close()
        self.reactor.dispose()

    def rules(self, family: str, kind: str, listen: str, target: str, options: str) -> list[str]:
        """The lines of rules files that make `kind`, whose listener is called by family and kind."""
        relay, _, filtered = kind.partition("-")
        beneath = FILTER_LINES.get(filtered, "")
        return [f"{family}-{kind}: {listen} -> {target} relay={relay} {options}{beneath}"]

    # The session log

    def opened(self, summary: SessionSummary) -> None:
        """Not wanted."""

    def closed(self, summary: SessionSummary) -> None:
        """A session is over."""
        self._closed.append(summary)

    # Conversations

    def begin(self, kind: str, family: str) -> Session:
        """Connect a client; nothing is turned yet, so the forwarder has not seen it."""
        name = f"{family}-{kind}"
        where = self.forwarder.addresses[name][0]
        sock = socket.socket(socket.AF_INET if family == "tcp" else socket.AF_UNIX)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        if family == "tcp":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            host, _, port = where.rpartition(":")
            sock.connect((host, int(port)))
        else:
            sock.connect("\0" + where.removeprefix("unix:@"))
        sock.setblocking(False)
        session = Session(name, Peer(Side.CLIENT, sock), Peer(Side.UPSTREAM, None))
        self.sessions.append(session)
        return session

    def _arrived(self, session: Session) -> bool:
        family = session.name.partition("-")[0]
        if session.upstream.socket is not None or session.upstream.gone:
            return False
        try:
            sock, _ = self._listening[family].accept()
        except BlockingIOError:
            return False
        sock.setblocking(False)
        if family == "tcp":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session.upstream.socket = sock
        return True

    def turn(self, session: Session, wait: float = 0.0) -> bool:
        """One turn of everybody, who wait so many seconds for an event; whether anything was seen."""
        self.reactor.iterate(wait)
        happened = self._arrived(session)
        happened |= session.client.act()
        happened |= session.upstream.act()
        for line in self._closed:
            assert line.rule == session.name, line
            assert session.line is None, "a second closing line"
            session.line = line
            happened = True
        self._closed.clear()
        return happened

    def settle(self, session: Session, seconds: float = LULL) -> None:
        """Turn until nobody sees anything any more, while that much time passes."""
        quiet = turns = passed = 0
        wait = 0.0
        while passed < 2 or quiet < QUIET_TURNS:
            quiet = 0 if self.turn(session, wait) else quiet + 1
            turns += 1
            if turns > MOST_TURNS:
                raise AssertionError(f"no end of it: {session.name} {self.forwarder.rules}")
            wait = 0.0
            if quiet >= QUIET_TURNS and self._kernel_moves(session):
                wait = 0.002
            elif quiet >= QUIET_TURNS and passed < 2:
                passed += 1
                quiet = 0
                self.reactor.now += seconds / 2

    def _kernel_moves(self, session: Session) -> bool:
        """
        Whether the kernels still owe each other something that no stopped reader holds up.

        An acknowledgement, most of all: Linux delays it by up to 40 ms of real time, and a side that is
        to be reset is not before its send queue is empty. A reader that stopped acknowledges too, as long as
        what is under way fits in its buffer; only a unix socket's queue waits for its reader.
        """
        fits = session.name.startswith("tcp") and session.under_way() <= FITS
        for live in self.forwarder.rules:
            for one in live.sessions.values():
                for stream in one.streams:
                    if stream is not None:
                        peer = session.peer(stream.side)
                        waits = peer.is_there and (peer.reading or fits)
                        if waits and stream.undelivered() > 0:
                            return True
        return False

    def play(self, kind: str, family: str, script: list[tuple[Side, str, int]], early: int = 0) -> Session:
        """
        Play a script, settling between its steps.

        :param early: that many of the first steps are done before the forwarder sees the client.
        """
        session = self.begin(kind, family)
        for number, (side, act, count) in enumerate(script):
            if number >= early:
                self.settle(session)
            session.do(side, act, count)
            if number < early:
                session.client.act()
        self.settle(session)
        return session

    def finish(self, session: Session) -> Outcome:
        """Everybody who is there reads, then ends; the session is over then."""
        for act in ("resume", "end"):
            for side in Side:
                session.do(side, act)
                self.settle(session)
        outcome = session.outcome()
        session.client.close()
        session.upstream.close()
        return outcome
