"""Tests for an accepting socket: batches, budgets, and what it does when the kernel has nothing left."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial import unittest
from zope.interface.verify import verifyObject

from portfwd.limits.admission import Admission, AdmissionRegistry, Bounds
from portfwd.limits.descriptors import PER_SESSION, RESERVE, DescriptorBudget
from portfwd.listen.listener import BATCH, LOG_INTERVAL, PAUSE, Listener
from portfwd.values import Address, InetAddress, UnixAddress
from tests.streams.far_ends import open_descriptors
from tests.streams.transports.test_plain import FakeReactor


class Knocking:
    """
    A listening socket whose every `accept` does what a test says.

    :ivar errors: numbers of the errors that the next calls raise.
    :ivar clients: how many clients wait.
    """

    family = socket.AF_INET

    def __init__(self) -> None:
        self.errors: list[int] = []
        self.clients = 0
        self.closed = False
        self.backlog = 0

    def fileno(self) -> int:
        return 99

    def listen(self, backlog: int) -> None:
        self.backlog = backlog

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 80)

    def _accept(self) -> tuple[int, object]:
        if self.errors:
            code = self.errors.pop(0)
            raise OSError(code, os.strerror(code))
        if not self.clients:
            raise BlockingIOError(errno.EAGAIN, "nobody")
        self.clients -= 1
        return socket.socket().detach(), ("192.0.2.1", 4711)

    def close(self) -> None:
        self.closed = True


class ListenerCase(unittest.SynchronousTestCase):
    """A listener with a budget, a clock, and whoever takes the clients."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.budget = DescriptorBudget(0, 0)
        self.taken: list[tuple[Any, Address | None]] = []
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)
        self.addCleanup(self._close)

    def _observe(self, event: Any) -> None:
        if event.get("log_namespace", "").startswith("portfwd"):
            self.lines.append(event["log_format"].format(**event))

    def _close(self) -> None:
        for client, _ in self.taken:
            client.close()

    def accept(self, client: Any, address: Address | None) -> None:
        """Take a client."""
        self.taken.append((client, address))

    def listener(self, sock: Any, backlog: int | None = None, **options: Any) -> Listener:
        """A listener on `sock`."""
        reactor: Any = self.reactor
        return Listener("web", sock, reactor, self.budget, self.accept, backlog, **options)


class FaultTests(ListenerCase):
    """What the kernel does is scripted."""

    def setUp(self) -> None:
        super().setUp()
        self.socket = Knocking()
        self.web = self.listener(self.socket)
        self.web.start()

    def knock(self, *codes: int, clients: int = 0) -> None:
        """The socket is readable."""
        self.socket.errors += codes
        self.socket.clients += clients
        if self.web in self.reactor.readers:
            self.web.doRead()

    def test_interface(self) -> None:
        """It is one reader of the reactor."""
        verifyObject(IReadDescriptor, self.web)
        self.assertEqual((self.reactor.readers, self.web.fileno()), ({self.web}, 99))
        self.assertEqual(self.web.logPrefix(), "web")
        self.assertEqual(self.socket.backlog, socket.SOMAXCONN)

    def test_accepted(self) -> None:
        """Every client that waits is handed over with its address, and its descriptors are counted."""
        self.knock(clients=3)
        self.assertEqual([address for _, address in self.taken], [InetAddress("192.0.2.1", 4711)] * 3)
        self.assertEqual((self.budget.spent, self.web.accepted), (3 * PER_SESSION, 3))
        self.assertEqual(repr(self.web), "<Listener web 127.0.0.1:80 accepting accepted=3>")

    def test_whatever_is_raised(self) -> None:
        """Nothing that taking a client raises leaves the listener, nor what an observer of the log raises."""

        def exits(client: Any, address: object) -> None:
            raise SystemExit

        def observe(event: Any) -> None:
            raise SystemExit

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.accept, accept = exits, self.accept  # type: ignore[method-assign]
        web = self.listener(Knocking())
        web.start()
        web.sock.clients = 1  # type: ignore[attr-defined]
        web.doRead()
        self.accept = accept  # type: ignore[method-assign]
        self.knock(errno.EMFILE)
        self.assertEqual((web.accepted, self.budget.spent), (1, 0))
        self.assertIn(web, self.reactor.readers)
        self.flushLoggedErrors(SystemExit)

    def test_batch(self) -> None:
        """A flood is taken in bounded parts: the rest is the reactor's next turn."""
        self.knock(clients=BATCH + 5)
        self.assertEqual(len(self.taken), BATCH)
        self.knock()
        self.assertEqual(len(self.taken), BATCH + 5)

    def test_clients_that_are_gone(self) -> None:
        """A client that is gone again is passed over, and the next one is taken."""
        self.knock(errno.ECONNABORTED, errno.EPROTO, errno.EPERM, clients=1)
        self.assertEqual((len(self.taken), self.budget.spent), (1, PER_SESSION))

    def test_nothing_left(self) -> None:
        """
        Without descriptors, table entries, buffers or memory nobody is closed: accepting pauses.

        After `PAUSE` it goes on by itself.
        """
        for count, code in enumerate((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM), 1):
            self.knock(code, clients=1)
            self.assertEqual(
                (self.web.pauses, len(self.taken), self.reactor.readers), (count, count - 1, set())
            )
            self.assertIn("pausing", repr(self.web))
            self.reactor.advance(PAUSE / 2)
            self.assertEqual(self.reactor.readers, set())
            self.reactor.advance(PAUSE)
            self.knock()
            self.assertEqual((len(self.taken), self.budget.spent), (count, count * PER_SESSION))

    def test_one_line_a_second(self) -> None:
        """However often it happens, the log has one line a second, which says what ran out."""
        for _ in range(25):
            self.knock(errno.EMFILE)
            self.reactor.advance(PAUSE)
        self.assertEqual(self.web.pauses, 25)
        self.assertEqual(len(self.lines), int(25 * PAUSE / LOG_INTERVAL) + 1, self.lines)
        self.assertEqual(self.lines[0], "web: accept pauses (EMFILE); clients wait in the backlog")

    def test_budget(self) -> None:
        """Where the budget has no room clients wait in the backlog; a session that ends lets one in."""
        self.budget.limit = RESERVE + 2 * PER_SESSION
        self.knock(clients=4)
        self.assertEqual((len(self.taken), self.socket.clients, self.reactor.readers), (2, 2, set()))
        self.assertEqual(self.web.waits, 1)
        self.assertIn("waiting for descriptors", repr(self.web))
        self.assertIn("clients wait in the backlog", self.lines[0])
        self.budget.give_back(PER_SESSION)
        self.knock()
        self.assertEqual((len(self.taken), self.socket.clients, self.web.waits), (3, 1, 2))
        self.assertEqual(len(self.lines), 1)

    def test_two_listeners_share(self) -> None:
        """A budget wakes every listener that waits; who comes too late waits on."""
        other = self.listener(Knocking())
        other.start()
        self.budget.limit = RESERVE + PER_SESSION
        self.budget.take(1)
        self.knock(clients=1)
        other.doRead()
        self.assertEqual(self.reactor.readers, set())
        self.budget.give_back(1)
        self.assertEqual(self.reactor.readers, {self.web, other})
        self.knock()
        other.doRead()
        self.assertEqual((len(self.taken), self.reactor.readers, other.waits), (1, set(), 2))

    def test_stopped_by_a_client(self) -> None:
        """A listener that is stopped while it accepts takes nobody else."""
        self.accept = lambda client, address: (self.taken.append((client, address)), self.web.stop())[0]  # type: ignore[method-assign, func-returns-value]
        self.web.stop()
        self.socket = Knocking()
        self.web = self.listener(self.socket)
        self.web.start()
        self.knock(clients=3)
        self.assertEqual((len(self.taken), self.socket.clients, self.socket.closed), (1, 2, True))

    def test_an_accident(self) -> None:
        """A client that cannot be taken in is closed; the others, and the listener, are not touched."""
        before = open_descriptors()
        broken: list[Any] = []

        def accept(client: Any, address: Address | None) -> None:
            broken.append(client)
            if len(broken) == 2:
                client.close()
            raise ZeroDivisionError

        self.accept = accept  # type: ignore[method-assign]
        web = self.listener(self.socket)
        web.start()
        self.socket.clients = 2
        web.doRead()
        self.assertEqual([client.fileno() for client in broken], [-1, -1])
        self.assertEqual((self.budget.spent, open_descriptors()), (0, before))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertIn(web, self.reactor.readers)

    def test_stop_while_it_pauses(self) -> None:
        """A stopped listener does not come back, neither after a pause nor when descriptors do."""
        self.knock(errno.EMFILE)
        self.web.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        waiting = self.listener(Knocking())
        waiting.start()
        self.budget.limit = 1
        waiting.doRead()
        waiting.stop()
        waiting.stop()
        self.budget.give_back(0)
        self.assertEqual((self.reactor.readers, waiting.address), (set(), None))
        self.assertEqual(repr(waiting), "<Listener web None stopped accepted=0>")

    def test_stop_after_a_pause(self) -> None:
        """A pause that is over leaves nothing to cancel."""
        self.knock(errno.EMFILE)
        self.reactor.advance(PAUSE)
        self.web.stop()
        self.assertEqual(self.reactor.readers, set())

    def test_given_up_by_the_reactor(self) -> None:
        """A listening socket that fails is closed, and that is a critical line."""
        self.web.connectionLost(Failure(ConnectionLost()))
        self.assertTrue(self.socket.closed)
        self.assertIn("the listening socket failed", self.lines[0])

    def test_hold_and_release(self) -> None:
        """A held listener lets clients wait; a released one takes them."""
        self.web.hold()
        self.assertTrue(self.web.held)
        self.assertIn(" held ", repr(self.web))
        self.knock(clients=2)
        self.assertEqual((len(self.taken), self.reactor.readers), (0, set()))
        self.web.release()
        self.assertFalse(self.web.held)
        self.knock()
        self.assertEqual(len(self.taken), 2)
        self.web.release()
        self.assertEqual(self.reactor.readers, {self.web})

    def test_held_while_it_pauses(self) -> None:
        """The end of a pause, or descriptors that come back, do not open what is held."""
        self.knock(errno.EMFILE)
        self.web.hold()
        self.reactor.advance(PAUSE)
        self.assertEqual((self.reactor.readers, self.web.state), (set(), "held"))
        self.web.release()
        self.assertEqual(self.reactor.readers, {self.web})
        self.knock(errno.EMFILE)
        self.web.hold()
        self.web.release()
        self.assertEqual(self.reactor.readers, set())
        self.reactor.advance(PAUSE)
        self.assertEqual(self.reactor.readers, {self.web})

    def test_handed_over(self) -> None:
        """The next clients go to somebody else, who has another name for the listener."""
        others: list[Any] = []
        self.knock(clients=1)
        self.web.hand_to("new", lambda client, address: others.append(client))
        self.knock(clients=1)
        for client in others:
            client.close()
        self.assertEqual((len(self.taken), len(others), self.web.logPrefix()), (1, 1, "new"))

    def test_resize(self) -> None:
        """Another length of the backlog is told to the kernel, the same one is not."""
        self.web.resize(7)
        self.assertEqual(self.socket.backlog, 7)
        self.socket.backlog = 0
        self.web.resize(7)
        self.assertEqual(self.socket.backlog, 0)
        self.web.resize(None)
        self.assertEqual(self.socket.backlog, socket.SOMAXCONN)


class RoomTests(ListenerCase):
    """Where there is no room for a client, one that is not worth its place is closed first."""

    def test_no_descriptors(self) -> None:
        """One client is closed for each that waits for descriptors."""
        self.budget = DescriptorBudget(RESERVE + PER_SESSION, 0)
        self.asked: list[str] = []
        sock = Knocking()
        web = self.listener(sock, make_room=self._drop)
        web.start()
        sock.clients = 3
        for served in (1, 2, 3):
            web.doRead()
            self.assertEqual((len(self.taken), self.reactor.readers), (served, {web}))
            self.assertEqual(len(self.asked), served - 1, "nobody is dropped before somebody knocks again")
            if served < 3:
                web.doRead()
                self.assertEqual(self.asked, ["there are no descriptors left"] * served)
                self.assertEqual((len(self.taken), self.reactor.readers), (served, set()))
                self.budget.give_back(PER_SESSION)

    def _drop(self, why: str) -> bool:
        self.asked.append(why)
        return True

    def test_limit(self) -> None:
        """At a limit at which clients wait, the next one is accepted at once if somebody was dropped."""
        keeper = AdmissionRegistry()
        limits = keeper.rule("web", Bounds(wait=True, max_conns=1))
        assert limits is not None
        droppable = 2

        def drop(why: str) -> bool:
            nonlocal droppable
            if droppable:
                droppable -= 1
                limits.left()
                return True
            return False

        sock = Knocking()
        web = self.listener(sock, accept_limit=limits)
        web.hand_to("web", lambda client, address: self.refusals.append(limits.admit(0.0)), drop)
        self.refusals: list[str] = []
        web.start()
        sock.clients = 5
        for served in (1, 2, 3):
            web.doRead()
            self.assertEqual((self.refusals, sock.clients), ([""] * served, 5 - served))
        web.doRead()
        self.assertEqual((len(self.refusals), sock.clients, web.state), (3, 2, "at a limit"))


class FakePoller:
    """Remembers who waits to be told of clients, as the reactor's readers."""

    def __init__(self, readers: set[Any]) -> None:
        self.readers = readers
        self.turns: list[Any] = []

    def watch(self, descriptor: int, events: int, watcher: Any, *, edge: int) -> None:
        (self.readers.add if events else self.readers.discard)(watcher)

    def forget(self, sock: Any, *, inherited: bool) -> None:
        assert inherited, "somebody else may have it"
        self.readers.clear()
        sock.close()

    def take_turn(self, turn: Any) -> None:
        self.turns.append(turn)


class PolledFaultTests(FaultTests):
    """The same where the poller tells of clients."""

    def listener(self, sock: Any, backlog: int | None = None, **options: Any) -> Listener:
        """A listener on `sock`."""
        self.poller = FakePoller(self.reactor.readers)
        return super().listener(sock, backlog, poller=self.poller, **options)

    def test_turn(self) -> None:
        """Clients are accepted in the listener's turn, and not at once."""
        self.socket.clients = 2
        self.web.ready(1)
        self.assertEqual((self.poller.turns, self.taken), ([self.web], []))
        self.web.run()
        self.assertEqual(len(self.taken), 2)

    def test_a_socket_that_breaks(self) -> None:
        """It is given up, with a line in the log."""
        self.web.ready(0x10)
        self.assertEqual((self.web.state, self.socket.closed), ("stopped", True))
        self.assertIn("the listening socket failed", self.lines[-1])

    def test_our_own_mistake(self) -> None:
        """The listener goes on: the next client may be taken."""
        self.web.failed(Failure(ZeroDivisionError()))
        self.assertEqual(self.web.state, "accepting")


class LimiterTests(ListenerCase):
    """Limits at which clients wait, with the limits themselves."""

    def setUp(self) -> None:
        super().setUp()
        self.keeper = AdmissionRegistry()
        self.judges: dict[str, Admission] = {}

    def limited(self, name: str = "web", **bounds: Any) -> tuple[Listener, Knocking, Admission]:
        """A listener at work, and the limits that it asks."""
        limits = self.keeper.rule(name, Bounds(wait=True, **bounds))
        assert limits is not None

        def accept(client: Any, address: Address | None) -> None:
            self.accept(client, address)
            self.refusals.append(self.judges[name].admit(self.reactor.seconds()))

        self.judges[name] = limits
        self.refusals: list[str] = []
        sock = Knocking()
        reactor: Any = self.reactor
        made = Listener(name, sock, reactor, self.budget, accept, None, accept_limit=limits)  # type: ignore[arg-type]
        made.start()
        return made, sock, limits

    def knock(self, listener: Listener, sock: Knocking, clients: int = 0) -> None:
        """The socket is readable."""
        sock.clients += clients
        if listener in self.reactor.readers:
            listener.doRead()

    def test_full(self) -> None:
        """Beyond the limit clients stay in the backlog; each session that ends lets one in."""
        web, sock, limits = self.limited(max_conns=2)
        self.knock(web, sock, clients=5)
        self.assertEqual((len(self.taken), sock.clients, self.reactor.readers), (2, 3, set()))
        self.assertEqual((web.state, web.limited, self.budget.spent), ("at a limit", 1, 2 * PER_SESSION))
        for left in (2, 1, 0):
            limits.left()
            self.assertEqual(self.reactor.readers, {web})
            self.knock(web, sock)
            self.assertEqual(sock.clients, left)
        self.assertEqual(self.refusals, [""] * 5)

    def test_rate(self) -> None:
        """Beyond the rate clients wait until there is a token, by a timer."""
        web, sock, _ = self.limited(rate=2.0)
        self.knock(web, sock, clients=4)
        self.assertEqual((len(self.taken), self.reactor.readers), (2, set()))
        self.reactor.advance(0.49)
        self.assertEqual(self.reactor.readers, set())
        self.reactor.advance(0.02)
        self.knock(web, sock)
        self.assertEqual((len(self.taken), sock.clients), (3, 1))
        self.reactor.advance(0.5)
        self.knock(web, sock)
        self.assertEqual((len(self.taken), self.refusals), (4, [""] * 4))

    def test_woken_for_nobody(self) -> None:
        """A listener whose client has gone meanwhile passes the place on to the next one that waits."""
        self.keeper.bound(Bounds(max_conns=1, wait=True))
        web, sock, limits = self.limited("web")
        ssh, other, _ = self.limited("ssh")
        self.knock(web, sock, clients=1)
        self.knock(web, sock, clients=1)
        self.knock(ssh, other, clients=1)
        self.assertEqual(self.reactor.readers, set())
        sock.clients = 0
        limits.left()
        self.assertEqual(self.reactor.readers, {web})
        # The reactor has nothing to say of a socket at which nobody knocks.
        self.reactor.advance(0)
        self.assertEqual((len(self.taken), self.reactor.readers), (2, {web}))

    def test_stopped_when_woken(self) -> None:
        """So does one that is stopped before it could look."""
        self.keeper.bound(Bounds(max_conns=1, wait=True))
        web, sock, limits = self.limited("web")
        ssh, other, _ = self.limited("ssh")
        self.knock(web, sock, clients=1)
        self.knock(web, sock, clients=1)
        self.knock(ssh, other, clients=1)
        limits.left()
        web.stop()
        self.assertEqual(self.reactor.readers, {ssh})

    def test_stopped_while_it_waits(self) -> None:
        """A listener that waits for a limit can be stopped, and is not woken any more."""
        for bounds in ({"max_conns": 1}, {"rate": 1.0}):
            web, sock, limits = self.limited(str(bounds), **bounds)
            self.knock(web, sock, clients=2)
            web.stop()
            limits.left()
            self.reactor.advance(5)
            self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), (set(), []))

    def test_other_limits(self) -> None:
        """Where other limits come to hold, a listener looks anew; where none do, it never waits."""
        web, sock, limits = self.limited(max_conns=1)
        self.knock(web, sock, clients=4)
        self.assertEqual(len(self.taken), 1)
        more = self.keeper.rule("web", Bounds(max_conns=2, wait=True))
        assert more is not None
        self.judges["web"] = more
        web.judge_by(more)  # type: ignore[arg-type]
        self.knock(web, sock)
        self.assertEqual((len(self.taken), web.state), (2, "at a limit"))
        web.judge_by(None)
        self.knock(web, sock)
        self.assertEqual((len(self.taken), web.state), (4, "accepting"))
        web.judge_by(limits)  # type: ignore[arg-type]
        self.knock(web, sock, clients=1)
        self.assertEqual((len(self.taken), web.state), (4, "at a limit"))


class RealTests(ListenerCase):
    """On real sockets."""

    def test_tcp(self) -> None:
        """Before the start nobody is let in; afterwards a client comes non-blocking, with its address."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        web = self.listener(sock, 5)
        self.assertEqual(web.address, InetAddress(*sock.getsockname()))
        self.assertIn(" bound ", repr(web))
        with socket.socket() as client:
            self.assertEqual(client.connect_ex(sock.getsockname()), errno.ECONNREFUSED)
        web.start()
        with socket.create_connection(sock.getsockname()) as client:
            web.doRead()
            [(accepted, address)] = self.taken
            self.assertEqual((address, accepted.gettimeout()), (InetAddress(*client.getsockname()), 0.0))
        web.stop()
        self.assertEqual(sock.fileno(), -1)

    def test_listen_can_fail(self) -> None:
        """An address that was taken between bind and listen is an error of the start."""
        first, second = socket.socket(), socket.socket()
        for sock in (first, second):
            self.addCleanup(sock.close)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind(("127.0.0.1", 0))
        second.bind(first.getsockname())
        first.listen()
        self.assertRaises(OSError, self.listener(second).start)
        self.assertEqual(self.reactor.readers, set())

    def test_unix(self) -> None:
        """The file of a unix socket goes with its listener, unless it is somebody else's."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        for inherited in (False, True):
            path = f"{directory}/{inherited}"
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(path)
            web = self.listener(sock, inherited=inherited)
            self.assertEqual(web.address, UnixAddress(path))
            web.stop()
            self.assertEqual(os.path.exists(path), inherited)
