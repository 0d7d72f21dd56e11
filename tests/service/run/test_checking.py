"""Tests of running checks: a forwarder on a reactor that the test turns, and targets that it plays."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.turn_clock import AT_ONCE
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.relay.context import RelayContext
from portfwd.relay.destination import Destination
from portfwd.rules.model import Options
from portfwd.service.build.checks import ReadyCheck
from portfwd.service.run import checking
from portfwd.service.run.check_results import Done, NoVerdict
from portfwd.service.run.check_runs import check_destination
from portfwd.service.run.checking import MAX_PROGRAMS, Checker, Checks
from portfwd.service.run.command_run import CommandRun
from portfwd.service.run.connect_run import ConnectRun
from portfwd.service.run.forwarder import Forwarder
from portfwd.upstreams.checks.api import (
    MAX_ANSWER,
    WAIT,
    Check,
    CheckCarrier,
    CheckConversation,
    CheckReply,
    Subject,
)
from portfwd.upstreams.checks.command import ExecCheck
from portfwd.upstreams.checks.timing import Timing
from portfwd.upstreams.health import TargetState, Verdict
from portfwd.values import CloseReason, InetAddress
from tests.service.contexts import Lines, a_context, rules
from tests.service.turning import TurningTestCase


class Raising(Check):
    """Fails by mistake."""

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return RaisingConversation()


class RaisingConversation(CheckConversation):
    """The mistake."""

    def opened(self) -> CheckReply:
        """Make it."""
        raise ZeroDivisionError


class RaisingAtBegin(Check):
    """Fails by mistake, before there is a connection."""

    def begin(self, subject: Subject) -> CheckConversation:
        """Make the mistake."""
        raise ZeroDivisionError


class RaisingAtEnd(Check):
    """Fails by mistake when the target closes."""

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return RaisingAtEndConversation()


class RaisingAtEndConversation(CheckConversation):
    """The mistake."""

    def opened(self) -> CheckReply:
        """Wait."""
        return WAIT

    def ended(self) -> CheckReply:
        """Make the mistake."""
        raise ZeroDivisionError


class RaisingArguments(Check):
    """Fails by mistake when it names its program."""

    carrier = CheckCarrier.COMMAND

    def arguments(self, subject: Subject) -> Sequence[str]:
        """Make the mistake."""
        raise ZeroDivisionError


class Waiting(Check):
    """Never decides."""

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return WaitingConversation()


class WaitingConversation(CheckConversation):
    """Waits for ever."""

    def opened(self) -> CheckReply:
        """Wait."""
        return WAIT


class CheckingCase(TurningTestCase):
    """A forwarder, whose targets the test plays; chance decides nothing."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(checking, "random", lambda: 0.5)

    def start(self, text: str) -> Forwarder:
        """Forward by `text`, where {one} and {two} are ports."""
        self.targets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        for target in self.targets:
            target.setblocking(False)
            self.addCleanup(target.close)
        self.ports = [target.getsockname()[1] for target in self.targets]
        self.forwarder = Forwarder(self.reactor, rules(self.text(text)), Lines(), drain=1.0)
        self.forwarder.startService()
        self.addCleanup(self.end_forwarder)
        return self.forwarder

    def text(self, text: str) -> str:
        """`text` with the ports of the targets."""
        return text.format(one=self.ports[0], two=self.ports[1])

    def end_forwarder(self) -> None:
        """Leave nothing behind."""
        self.forwarder.cut(CloseReason.KILLED)
        if self.forwarder.running:
            self.forwarder.stopService()
        self.turn(10)
        self.assertEqual(self.forwarder.checks.programs, 0)

    def states(self, rule: int = 0) -> list[TargetState]:
        """Those of the rule's targets."""
        pool = self.forwarder.rules[rule].balancing.pool()
        assert pool is not None
        now = self.turned.seconds()
        return [pool.state_of(one, now) for one in pool.members]

    def cause(self) -> str:
        """Why the first target is as it is."""
        pool = self.forwarder.rules[0].balancing.pool()
        assert pool is not None
        return pool.members[0].health.cause

    def problem(self) -> str:
        """Why the last check of the first target decided nothing."""
        pool = self.forwarder.rules[0].balancing.pool()
        assert pool is not None
        (check,) = pool.members[0].health.checks.values()
        return check.problem

    def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass in small steps."""
        for _ in range(round(seconds / 0.1)):
            self.turn(0.1)

    def count_connects(self) -> list[str]:
        """The addresses to which a check ``tcp`` begins to connect; on Linux servers do not see it."""
        begun: list[str] = []
        start = ConnectRun.start

        def counted(run: ConnectRun) -> None:
            begun.append(repr(run).split()[1])
            start(run)

        self.patch(ConnectRun, "start", counted)
        return begun

    def accepted(self, number: int = 0) -> list[socket.socket]:
        """The connections that have come to a target."""
        found = []
        while True:
            try:
                found.append(self.targets[number].accept()[0])
            except BlockingIOError:
                return found
            self.addCleanup(found[-1].close)


class ConnectTests(CheckingCase):
    """``check tcp``."""

    def test_down_and_up(self) -> None:
        """A target that refuses is down after the first check, and up again after ``rise`` good ones."""
        self.start("web: 127.0.0.1:0 -> 127.0.0.1:{one}, 127.0.0.1:{two}\n  check tcp inter=1s")
        self.targets[0].close()
        self.pass_time(1)
        self.assertEqual(self.states(), [TargetState.DOWN, TargetState.UP])
        self.assertRegex(self.cause(), r"\Acheck tcp: 127.0.0.1:\d+: Connection refused\Z")
        self.targets[0] = socket.create_server(("127.0.0.1", self.ports[0]))
        self.addCleanup(self.targets[0].close)
        self.pass_time(3.5)
        self.assertEqual(self.states(), [TargetState.UP, TargetState.UP])
        self.assertEqual(self.cause(), "check tcp: connected")
        self.assertRegex(repr(self.forwarder.checks), r"\A<Checks of 2>\Z")

    def test_once(self) -> None:
        """Several rules with the same target and check ask it once."""
        line = ": 127.0.0.1:0 -> 127.0.0.1:{one}\n  check tcp inter=1s\n"
        begun = self.count_connects()
        self.start(f"web{line}app{line}other{line}")
        self.pass_time(10)
        self.assertIn(len(begun), (9, 10, 11))

    def test_reload(self) -> None:
        """A reload with another ``inter`` forgets nothing; without a check the target is asked no more."""
        text = "web: 127.0.0.1:0 -> 127.0.0.1:{one}, 127.0.0.1:{two}\n"
        self.start(text + "  check tcp inter=1s")
        self.targets[0].close()
        self.pass_time(1)
        self.forwarder.reload(rules(self.text(text + "  check tcp inter=3s\n")))
        self.turn(0.1)
        self.assertEqual(self.states(), [TargetState.DOWN, TargetState.UP])
        self.forwarder.reload(rules(self.text(text)))
        self.turn_until(lambda: repr(self.forwarder.checks) == "<Checks of 0>")
        begun = self.count_connects()
        self.pass_time(4)
        self.assertEqual(begun, [])

    def test_sessions_of_older_rules(self) -> None:
        """Checks of a rule that a reload has removed go on for its sessions, and close them."""
        text = "web: 127.0.0.1:0 -> 127.0.0.1:{one} on-down=close\n  check tcp inter=1s\n"
        self.start(text)
        client = socket.create_connection(
            ("127.0.0.1", int(self.forwarder.addresses["web"][0].split(":")[1]))
        )
        self.addCleanup(client.close)
        self.turn_until(lambda: self.forwarder.session_count)
        self.forwarder.reload(rules(self.text("other: 127.0.0.1:0 -> 127.0.0.1:{two}\n")))
        self.turn_until(lambda: self.forwarder.rules[0].name == "other")
        self.turn(0.1)
        self.assertEqual(repr(self.forwarder.checks), "<Checks of 1>")
        self.targets[0].close()
        self.pass_time(5)
        self.assertEqual(self.forwarder.session_count, 0)
        self.assertEqual(repr(self.forwarder.checks), "<Checks of 0>")
        client.settimeout(1)
        self.assertRaises(ConnectionResetError, client.recv, 1)

    def test_checks_of_the_newest_rule(self) -> None:
        """A reload that gives a rule another check and ``on-down=close``: older sessions follow both."""
        self.start("web: 127.0.0.1:0 -> 127.0.0.1:{one}\n  check tcp inter=1s\n")
        client = socket.create_connection(
            ("127.0.0.1", int(self.forwarder.addresses["web"][0].split(":")[1]))
        )
        self.addCleanup(client.close)
        self.turn_until(lambda: self.forwarder.session_count)
        text = "web: 127.0.0.1:0 -> 127.0.0.1:{one} on-down=close\n  check tcp inter=1s port={two}\n"
        self.forwarder.reload(rules(self.text(text)))
        self.turn_until(lambda: self.forwarder.rules[0].rule.checks[0].options[1:])
        self.turn(0.1)
        self.assertEqual(repr(self.forwarder.checks), "<Checks of 1>")
        self.pass_time(2)
        self.assertEqual(self.forwarder.session_count, 1)
        self.targets[1].close()
        self.pass_time(5)
        self.assertEqual(self.forwarder.session_count, 0)

    def test_no_descriptor(self) -> None:
        """Without a descriptor for it a check waits, and says nothing."""
        begun = self.count_connects()
        self.start("web: 127.0.0.1:0 -> 127.0.0.1:{one}\n  check tcp inter=1s")
        budget = self.forwarder.budget
        before, budget.limit = budget.limit, 1
        self.pass_time(2)
        self.assertEqual((begun, self.states()), ([], [TargetState.UP]))
        budget.limit = before
        self.pass_time(1)
        self.assertEqual(begun, [f"127.0.0.1:{self.ports[0]}"])


class ConversationTests(CheckingCase):
    """Checks that speak."""

    def test_http(self) -> None:
        """The answer is judged; the connection is closed behind it."""
        self.start("web: 127.0.0.1:0 -> 127.0.0.1:{one}\n  check http inter=1s")
        self.pass_time(0.6)
        (peer,) = self.accepted()
        self.assertTrue(peer.recv(4096).startswith(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n"))
        peer.sendall(b"HTTP/1.1 503 Busy\r\n\r\n")
        self.turn()
        self.assertEqual((self.states(), self.cause()), ([TargetState.DOWN], "check http: status 503 Busy"))
        peer.settimeout(1)
        self.assertEqual(peer.recv(10), b"")

    def test_no_answer(self) -> None:
        """A target that accepts and says nothing fails at ``timeout``; no second check begins before."""
        self.start("web: 127.0.0.1:0 -> 127.0.0.1:{one}\n  check http inter=200ms timeout=3s")
        self.pass_time(2.5)
        self.assertEqual(len(self.accepted()), 1)
        self.pass_time(1)
        self.assertEqual(
            (self.states(), self.cause()), ([TargetState.DOWN], "check http: no answer within 3 s")
        )

    def test_too_long(self) -> None:
        """A target that sends too much fails a check of a plug-in too, and is reset at once."""
        path = f"{__name__}.Waiting"
        self.start(f"web: 127.0.0.1:0 -> 127.0.0.1:{{one}}\n  check python:{path} inter=1s timeout=1s")
        self.pass_time(0.6)
        (peer,) = self.accepted()
        peer.setblocking(False)
        sent = 0
        with self.assertRaises(ConnectionError):
            while sent < 64 * MAX_ANSWER:
                with contextlib.suppress(BlockingIOError):
                    sent += peer.send(bytes(MAX_ANSWER))
                self.turn()
        self.assertIn("no verdict after 65536 bytes of the answer", self.cause())

    def test_mistake(self) -> None:
        """A check that raises anywhere has failed, is logged once, and disturbs no other check."""
        for name in ("Raising", "RaisingAtBegin", "RaisingAtEnd", "RaisingArguments"):
            path = f"{__name__}.{name}"
            self.start(
                f"web: 127.0.0.1:0 -> 127.0.0.1:{{one}}\n"
                f"  check python:{path} inter=500ms\n  check tcp inter=500ms"
            )
            for _ in range(3):
                self.pass_time(0.7)
                for peer in self.accepted():
                    peer.close()
            self.assertTrue(self.cause().endswith("the check raised ZeroDivisionError"), self.cause())
            self.assertEqual(self.states(), [TargetState.DOWN])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1, name)
            pool = self.forwarder.rules[0].balancing.pool()
            assert pool is not None
            self.assertEqual([one.passing for one in pool.members[0].health.checks.values()], [False, True])
            self.end_forwarder()

    def test_agent(self) -> None:
        """An agent decides at once; one that cannot be reached changes nothing."""
        self.start("web: 127.0.0.1:0 -> 127.0.0.1:{one}\n  check agent port={two} inter=1s")
        self.pass_time(0.6)
        (peer,) = self.accepted(1)
        peer.sendall(b"drain\n")
        self.turn()
        self.assertEqual((self.states(), self.cause()), ([TargetState.DRAIN], "check agent: drain"))
        self.pass_time(1)
        (peer,) = self.accepted(1)
        peer.sendall(b"garbage\n")
        self.turn()
        self.assertEqual(
            (self.states(), self.problem()),
            ([TargetState.DRAIN], "check agent: no known word in the answer 'garbage'"),
        )
        self.targets[1].close()
        self.pass_time(3)
        self.assertEqual(self.states(), [TargetState.DRAIN])
        self.assertRegex(self.problem(), r"\Acheck agent: .*Connection refused\Z")

    def test_impossible(self) -> None:
        """A check whose files cannot be used has failed, with the cause."""
        self.start("web: 127.0.0.1:0 -> 127.0.0.1:{one}\n  check tls inter=1s")

        def refuse(*_: object) -> None:
            raise OSError(2, "No such file or directory", "/etc/ca.pem")

        self.patch(checking, "check_destination", refuse)
        self.forwarder.checks.follow()
        self.assertEqual(self.states(), [TargetState.DOWN])
        self.assertIn("/etc/ca.pem", self.cause())
        self.assertEqual(repr(self.forwarder.checks), "<Checks of 0>")

    def test_datagrams(self) -> None:
        """A name server that answers is up; without an answer it is down, whatever ICMP says."""
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(server.close)
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        port = server.getsockname()[1]
        self.start(
            f"dns: 127.0.0.1:0/udp -> 127.0.0.1:{port}/udp\n"
            "  check dns name=example.com inter=1s timeout=500ms fall=1"
        )
        self.pass_time(0.6)
        question, sender = server.recvfrom(512)
        server.sendto(question[:2] + b"\x81\x80" + question[4:], sender)
        self.turn()
        pool = self.forwarder.rules[0].balancing.pool()
        assert pool is not None
        (check,) = pool.members[0].health.checks.values()
        self.assertEqual((check.passing, check.verdict.cause), (True, "check dns: NOERROR"))
        self.pass_time(2)
        self.assertEqual(
            (self.states(), self.cause()), ([TargetState.DOWN], "check dns: no answer within 0.5 s")
        )

    def test_refused_datagrams(self) -> None:
        """The kernel's refusal of a closed port is a failure at once."""
        self.start("dns: 127.0.0.1:0/udp -> 127.0.0.1:{one}/udp\n  check dns name=. inter=1s")
        self.pass_time(1)
        self.assertIn("Connection refused", self.cause())

    def test_names(self) -> None:
        """A target's name is looked up for checks too."""
        self.start("dns: 127.0.0.1:0/udp -> localhost:{one}/udp\n  check dns name=. inter=1s timeout=900ms")
        self.pass_time(0.6)
        self.turn_until(lambda: self.states() == [TargetState.DOWN])
        self.assertIn("Connection refused", self.cause())


class PlayedRun:
    """A check whose outcome the test tells."""

    judged = True

    def __init__(self, began_at: float, done: Done) -> None:
        self.began_at = began_at
        self.done = done
        self.is_cancelled = False

    def start(self) -> None:
        """Nothing comes at once."""

    def cancel(self) -> None:
        """See `Run`."""
        self.is_cancelled = True


class TimingTests(SynchronousTestCase):
    """When checks begin and end, on a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.runs: list[PlayedRun] = []
        self.patch(checking, "random", lambda: 0.5)
        self.patch(checking, "make_run", self.make_run)
        self.context = a_context(self.clock)
        self.checks = Checks(self.context, DescriptorBudget(0, 0), lambda: ())
        self.health = self.context.targets.of("a", "a", ("played",))

    def make_run(self, ready: ReadyCheck, there: Destination, context: RelayContext, done: Done) -> PlayedRun:
        """One more."""
        self.runs.append(PlayedRun(self.clock.seconds(), done))
        return self.runs[-1]

    def checker(self, timing: Timing) -> Checker:
        """A check with that timing."""
        ready = ReadyCheck("played", Check(), timing, "played")
        there = Destination("a", Options(), address=InetAddress("10.0.0.5", 80))
        checker = Checker(self.checks, self.health, ready, there)
        checker.start(few=True)
        return checker

    def pass_time(self, seconds: float, verdict: Verdict | None = None) -> list[float]:
        """
        Let time pass in steps of 50 ms, and answer each check with `verdict`.

        :returns: when each began, to a quarter of a second: beginnings are late by a tick or two.
        """
        before = len(self.runs)
        answered = before
        for _ in range(round(seconds / 0.05)):
            self.clock.advance(0.05)
            while verdict is not None and answered < len(self.runs):
                self.runs[answered].done(verdict)
                answered += 1
        return [int(run.began_at * 4) / 4 for run in self.runs[before:]]

    def test_regular(self) -> None:
        """One every ``inter``, whatever the last one took."""
        self.checker(Timing(inter=1.0))
        self.assertEqual(self.pass_time(3.5, Verdict(True)), [0.25, 1.25, 2.25, 3.25])

    def test_timeout(self) -> None:
        """One without an answer in time has failed; beyond ``inter`` the next one waits for that."""
        self.checker(Timing(inter=1.0, timeout=0.4))
        self.assertEqual(self.pass_time(1.5), [0.25, 1.25])
        self.assertTrue(self.runs[0].is_cancelled)
        self.assertEqual(self.health.cause, "check played: no answer within 0.4 s")
        self.runs.clear()
        self.setUp()
        self.checker(Timing(inter=1.0, timeout=2.5))
        self.assertEqual(self.pass_time(3.5), [0.25, 2.75])

    def test_fastinter(self) -> None:
        """While the verdicts differ from what counts, checks come faster; then as before."""
        self.checker(Timing(inter=2.0, fastinter=0.5, fall=3))
        self.assertEqual(self.pass_time(3, Verdict(True)), [0.25, 2.25])
        self.assertEqual(self.pass_time(4, Verdict(False)), [4.25, 4.75, 5.25])
        self.assertIs(self.health.state, TargetState.DOWN)
        self.assertEqual(self.pass_time(2, Verdict(False)), [7.25])

    def test_crowd(self) -> None:
        """More than a turn takes are begun in the turns that follow, not when the next one is due."""
        for _ in range(2 * AT_ONCE + 1):
            self.checker(Timing(inter=1.0))
        self.assertIn(f"{2 * AT_ONCE + 1} due", repr(self.checks.schedule))
        self.clock.advance(0.25)
        self.assertEqual(len(self.runs), 2 * AT_ONCE + 1)

    def test_stopped(self) -> None:
        """One that is stopped ends its check, and begins no other."""
        checker = self.checker(Timing(inter=1.0))
        self.pass_time(0.5)
        checker.stop()
        self.assertTrue(self.runs[0].is_cancelled)
        self.assertEqual(self.pass_time(3), [])
        self.checks.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ProcessReactor(Clock):
    """A clock that starts programs, as far as anybody asks."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[tuple[Any, str, Sequence[str], dict[str, str]]] = []
        self.signals: list[str] = []
        self.problem: Exception | None = None

    def spawnProcess(self, protocol: Any, program: str, arguments: Sequence[str], env: dict[str, str]) -> Any:
        """One more; it does nothing."""
        if self.problem is not None:
            raise self.problem
        self.spawned.append((protocol, program, arguments, env))
        return self

    def signalProcess(self, signal: str) -> None:
        self.signals.append(signal)


class CommandTests(SynchronousTestCase):
    """``check exec``."""

    def setUp(self) -> None:
        self.reactor = ProcessReactor()
        self.verdicts: list[Verdict | NoVerdict | None] = []
        self.ready = ReadyCheck("exec", ExecCheck(command=("/bin/check", "x y")), Timing(), "exec")
        subject = Subject("10.0.0.5:80", "10.0.0.5", 80)
        self.run_ = CommandRun(self.ready, subject, a_context(self.reactor), self.verdicts.append)

    def test_program(self) -> None:
        """It gets its arguments as they are, no shell, and an environment of its own."""
        self.run_.start()
        ((_, program, arguments, environment),) = self.reactor.spawned
        self.assertEqual((program, arguments), ("/bin/check", ["/bin/check", "x y"]))
        self.assertEqual(environment["PORTFWD_TARGET"], "10.0.0.5:80")
        self.assertEqual(set(environment), {"PATH", "PORTFWD_TARGET", "PORTFWD_HOST", "PORTFWD_PORT"})
        self.run_.outReceived(b"fine\n")
        self.run_.processEnded(Failure(ProcessDone(0)))
        self.assertEqual(self.verdicts, [Verdict(True, "fine")])

    def test_failures(self) -> None:
        """Another status fails, and a missing program; a lack of resources says nothing of the target."""
        self.run_.start()
        self.run_.processEnded(Failure(ProcessTerminated(3)))
        self.assertEqual(self.verdicts, [Verdict(False, "exit status 3")])
        self.reactor.problem = FileNotFoundError(errno.ENOENT, "No such file or directory")
        self.run_.start()
        self.reactor.problem = OSError(errno.EMFILE, "Too many open files")
        self.run_.start()
        self.assertEqual(
            self.verdicts[1:],
            [
                Verdict(False, "/bin/check cannot be run: No such file or directory"),
                NoVerdict("/bin/check cannot be run: Too many open files"),
            ],
        )

    def test_cancel(self) -> None:
        """It is killed, and what it says then is not heard."""
        self.run_.start()
        self.run_.cancel()
        self.run_.processEnded(Failure(ProcessTerminated(None, 9)))
        self.assertEqual((self.reactor.signals, self.verdicts), (["KILL"], []))

    def test_bounded(self) -> None:
        """So many programs run at a time; others wait for a place."""
        context = a_context(self.reactor)
        checks = Checks(context, DescriptorBudget(0, 0), lambda: ())
        health = context.targets.of("a", "a", ("exec",))
        destination = cast(Any, self.destination())
        checkers = [Checker(checks, health, self.ready, destination) for _ in range(MAX_PROGRAMS + 2)]
        for checker in checkers:
            checker.start(few=True)
        self.reactor.advance(0.6)
        self.assertEqual(len(self.reactor.spawned), MAX_PROGRAMS)
        self.reactor.spawned[0][0].processEnded(Failure(ProcessDone(0)))
        self.reactor.advance(0.2)
        self.assertEqual(len(self.reactor.spawned), MAX_PROGRAMS + 1)
        for checker in checkers:
            checker.stop()
        checks.stop()
        self.assertEqual((checks.programs, self.reactor.getDelayedCalls()), (0, []))
        self.assertIn("Checker exec of a", repr(checkers[0]))

    def destination(self) -> Any:
        """Where the check goes."""
        return Destination("a", Options(), address=InetAddress("10.0.0.5", 80))

    def test_where(self) -> None:
        """A check has a port and a time limit of its own, and no limit of sessions."""
        ready = ReadyCheck("tcp", Check(), Timing(port=81, timeout=7.0), "tcp")
        there = check_destination(self.destination(), ready, a_context(self.reactor))
        self.assertEqual((there.address, there.label), (InetAddress("10.0.0.5", 81), "10.0.0.5:81"))
        self.assertEqual(there.options.connect_timeout, 7.0)
