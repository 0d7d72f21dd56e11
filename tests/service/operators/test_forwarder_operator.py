"""Tests of the forwarder as operators see it."""

from __future__ import annotations

import os
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd import __version__
from portfwd.admin.answers import rule_row, session_row
from portfwd.admin.operator import OperatorError
from portfwd.rules.model import OnRemove
from portfwd.service.daemon.log_level import LogThreshold
from portfwd.service.operators.forwarder_operator import ForwarderOperator
from portfwd.values import TO_CLIENT, TO_UPSTREAM
from tests.service.contexts import rules
from tests.service.operated import OperatedTestCase


@frozen
class Came:
    """What came of a reload."""

    applied: bool = True
    failures: tuple[str, ...] = ()

    def lines(self) -> Any:
        return iter(("refused, nothing was changed", *self.failures) if self.failures else ("1 added",))


class LookTests(OperatedTestCase):
    """What is seen."""

    def test_status(self) -> None:
        """Figures of the whole; descriptors are those that the forwarder counts anyhow."""
        self.client()
        self.turned.now += 61
        status = self.operating.status()
        self.assertEqual((status["version"], status["pid"]), (__version__, os.getpid()))
        self.assertEqual((status["rules"], status["sessions"], status["total"]), (2, 1, 1))
        self.assertEqual((status["state"], status["uptime"]), ("running", 61.0))
        self.assertEqual((status["reloads"], status["reloaded_at"]), (0, None))
        self.client()
        self.assertGreater(self.operating.status()["descriptors"], status["descriptors"])
        self.assertIn("Forwarder", repr(self.operating))

    def test_rules(self) -> None:
        """Each rule, in order, from any on."""
        self.client("lab")
        web, lab = self.operating.rules()
        self.assertEqual((web.name, web.state, web.sessions, web.filters), ("web", "accepting", 0, ()))
        self.assertEqual((lab.sessions, lab.total, lab.filters), (1, 1, ("faults",)))
        self.assertEqual(list(web.listen), self.forwarder.addresses["web"])
        self.assertEqual(rule_row(web)["where"], "test.conf:1:1")
        self.assertEqual([one.name for one in self.operating.rules(1)], ["lab"])
        self.assertEqual(self.operating.rule_count(), 2)

    def test_rule_states(self) -> None:
        """A rule accepts, is paused, or listens nowhere, with sessions that are left or without."""
        self.client("lab")
        self.operating.pause("web")
        self.operating.drain("lab")
        web, lab = self.operating.rules()
        self.assertEqual((web.state, lab.state, lab.listen), ("paused", "draining", ()))
        (session,) = self.operating.sessions("lab")
        self.operating.kill(session)
        self.turn_until(lambda: [one.state for one in self.operating.rules()] == ["paused", "closed"])
        self.assertEqual(self.operating.resume("web"), ["web"])
        self.assertEqual(next(self.operating.rules()).state, "accepting")

    def test_sessions(self) -> None:
        """All, those of a rule, or one by its number."""
        self.client()
        self.client("lab")
        found = list(self.operating.sessions())
        self.assertEqual([one.id for one in found], [1, 2])
        self.assertEqual([one.id for one in self.operating.sessions("lab")], [2])
        self.assertIs(self.operating.session(2), found[1])
        self.assertEqual(session_row(found[0])["state"], "relaying")
        error = self.assertRaises(OperatorError, self.operating.session, 99)
        self.assertEqual(error.code, "not-found")
        error = self.assertRaises(OperatorError, list, self.operating.sessions("wob"))
        self.assertIn("did you mean 'web'?", str(error))

    def test_sessions_of_old_rules(self) -> None:
        """Sessions of a rule that a reload has removed are still seen, and their names are understood."""
        self.client()
        gone = rules("lab: 127.0.0.1:0 -> 127.0.0.1:9 on-remove=stay")
        self.assertEqual(self.forwarder.rules[0].options.on_remove, OnRemove.STAY)
        self.assertTrue(self.turn_for(self.forwarder.reload(gone)).applied)
        self.assertEqual([one.id for one in self.operating.sessions("web")], [1])
        self.assertEqual(self.operating.session(1).id, 1)
        self.assertIsNotNone(self.operating.status()["reloaded_at"])
        self.assertRaises(OperatorError, self.operating.pause, "web")
        self.assertEqual(self.operating.status()["total"], 1)

    def test_sessions_of_a_renamed_rule(self) -> None:
        """They are those of the rule that has replaced theirs."""
        self.client()
        text = self.text.format(target="127.0.0.1:9", directory=self.directory).replace("web:", "site:")
        self.assertTrue(self.turn_for(self.forwarder.reload(rules(text))).applied)
        found = [(one.name, one.sessions) for one in self.operating.rules()]
        self.assertEqual(found, [("site", 1), ("lab", 0)])

    def test_totals(self) -> None:
        """A reload loses no count: neither of a rule that it changes, nor the one of all."""
        self.client()
        self.client("lab")
        changed = rules(self.text.format(target="127.0.0.1:9", directory=self.directory).partition("lab:")[0])
        self.assertTrue(self.turn_for(self.forwarder.reload(changed)).applied)
        self.assertEqual([(one.sessions, one.total) for one in self.operating.rules()], [(1, 1)])
        self.assertEqual(self.operating.status()["total"], 2)

    def test_detail(self) -> None:
        """A session's two streams, or that there is none."""
        client, _ = self.client()
        session = self.operating.session(1)
        self.assertIn("SocketStream upstream", self.operating.detail(session)["upstream_stream"])
        client.close()
        self.turn()

    def test_explain(self) -> None:
        """It uses the active rules, like the command."""
        port = self.forwarder.rules[0].rule.listen.ports
        assert port is not None
        found = self.operating.explain("192.0.2.1", f":{port.first}")
        self.assertIn("192.0.2.1 to", found["text"])
        self.assertIn("  relay    ", found["text"])
        self.assertIn("client", found["explanation"])
        error = self.assertRaises(OperatorError, self.operating.explain, "nobody", ":1")
        self.assertEqual(error.code, "bad-request")

    def test_tap(self) -> None:
        """Bytes of both sides are seen until it is ended; a session that is over cannot be tapped."""
        client, upstream = self.client()
        seen: list[Any] = []
        session = self.operating.session(1)
        end = self.operating.tap(session, lambda way, data: seen.append((way, data)))
        client.send(b"question")
        self.turn()
        upstream.send(b"answer")
        self.turn()
        end()
        client.send(b"more")
        self.turn()
        self.assertEqual(seen, [(TO_UPSTREAM, b"question"), (TO_CLIENT, b"answer")])
        self.operating.kill(session)
        self.turn()
        error = self.assertRaises(OperatorError, self.operating.tap, session, lambda way, data: None)
        self.assertEqual(error.code, "refused")


class SteerTests(OperatedTestCase):
    """What is done."""

    def test_kill(self) -> None:
        """A session is reset, and its line says by whom."""
        client, _ = self.client()
        self.operating.kill(self.operating.session(1))
        self.turn()
        self.assertRaises(ConnectionResetError, client.recv, 1)
        (line,) = self.lines.closed_lines
        assert line.reason is not None
        self.assertEqual(line.reason.code, "KD")

    def test_rules(self) -> None:
        """Rules are steered by name; a name that is none is refused."""
        self.assertEqual(self.operating.pause("web"), ["web"])
        self.assertEqual(self.operating.drain("web"), ["web"])
        self.assertEqual(self.operating.resume("web"), ["web"])
        error = self.assertRaises(OperatorError, self.operating.drain, "wob")
        self.assertEqual(error.code, "not-found")

    def test_faults(self) -> None:
        """Faults of one rule or of all; they are found by the rule's name."""
        self.client("lab")
        (fault,) = self.operating.faults(None)
        self.assertEqual((fault.rule, fault.connections), ("lab", 1))
        self.assertEqual(self.operating.faults("web"), [])
        (fault,) = self.operating.set_faults("lab", "all", False, {})
        self.assertFalse(fault.active)

    def test_log_level(self) -> None:
        """It is shown, and set."""
        operating = ForwarderOperator(
            self.forwarder, self.reactor, threshold=LogThreshold(LogPublisher(lambda event: None))
        )
        self.assertEqual(operating.log_level(None), "debug")
        self.assertEqual(operating.log_level("warn"), "warn")
        self.assertEqual(operating.status()["log_level"], "warn")
        self.assertRaises(OperatorError, operating.log_level, "loud")

    def test_stop(self) -> None:
        """`stop` calls the given function; without one it is refused."""
        stopped: list[bool] = []
        ForwarderOperator(self.forwarder, self.reactor, stop=lambda: stopped.append(True)).stop()
        self.assertEqual(stopped, [True])
        self.assertEqual(self.assertRaises(OperatorError, self.operating.stop).code, "refused")

    def test_draining(self) -> None:
        """A forwarder that stops says so."""
        self.client()
        self.forwarder.stopService()
        self.assertEqual(self.operating.status()["state"], "draining")
        web, lab = self.operating.rules()
        self.assertEqual((web.state, web.listen, web.sessions), ("draining", (), 1))
        self.assertEqual(lab.state, "closed")
        self.assertEqual([one.name for one in self.operating.rules(1)], [lab.name])
        error = self.assertRaises(OperatorError, self.operating.pause, "web")
        self.assertIn("stopping", str(error))


class ReloadTests(SynchronousTestCase):
    """Reloads by the given function."""

    def setUp(self) -> None:
        self.waiting: Deferred[Came] = Deferred()
        self.asked: list[bool] = []
        self.operating = ForwarderOperator(None, _Clock(), reload=self.reload)  # type: ignore[arg-type]

    def reload(self, dry_run: bool, code: bool) -> Deferred[Came]:
        self.asked.append(dry_run)
        return self.waiting

    def ask(self, dry_run: bool = False) -> Deferred[dict[str, Any]]:
        """Ask for one."""
        return Deferred.fromCoroutine(self.operating.reload(dry_run))

    def test_applied(self) -> None:
        """What came of it, when it is over."""
        asked = self.ask()
        self.assertNoResult(asked)
        self.waiting.callback(Came())
        self.assertEqual(self.successResultOf(asked), {"applied": True, "lines": ["1 added"]})
        self.assertEqual(self.asked, [False])

    def test_refused(self) -> None:
        """Rules that cannot be had are a refusal, with every line."""
        self.waiting.callback(Came(False, ("rules.conf:3: no",)))
        error = self.failureResultOf(self.ask(True), OperatorError).value
        assert isinstance(error, OperatorError)
        self.assertEqual((error.code, str(error)), ("bad-rules", "refused, nothing was changed"))
        self.assertEqual(error.details["lines"][1], "rules.conf:3: no")

    def test_left(self) -> None:
        """Who asked may leave; the reload goes on."""
        asked = self.ask()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertFalse(self.waiting.called)
        self.waiting.callback(Came())
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_no_file(self) -> None:
        """Where there is no file, there is nothing to reload."""
        operating = ForwarderOperator(None, _Clock())  # type: ignore[arg-type]
        asked = Deferred.fromCoroutine(operating.reload(False))
        error = self.failureResultOf(asked, OperatorError).value
        assert isinstance(error, OperatorError)
        self.assertEqual(error.code, "refused")


class _Clock:
    def seconds(self) -> float:
        return 0.0
