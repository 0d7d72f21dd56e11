"""Tests of the commands of the control socket."""

from __future__ import annotations

import shlex
from typing import Any
from unittest import mock

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.commands import COMMANDS, MAX_ROWS, serve
from portfwd.admin.operator import LiveSession, OperatorError
from portfwd.admin.requests import read_request
from portfwd.relay.states import State
from portfwd.rules.admin_lines import Level
from portfwd.values import TO_CLIENT, CloseReason, FlowSummary
from tests.admin.fakes import RULE, Client, FakeOperator, FakeSession


class CommandTestCase(SynchronousTestCase):
    """A forwarder with three sessions, and a client."""

    def setUp(self) -> None:
        self.sessions = [FakeSession(number) for number in (1, 2, 3)]
        self.operator = FakeOperator(*self.sessions)
        self.client = Client(self.operator)

    def begin(self, line: str, client: Client | None = None) -> Deferred[dict[str, Any]]:
        """Ask, and let the work be done."""
        client = self.client if client is None else client
        request = read_request(line.encode())
        assert request is not None
        serving = Deferred.fromCoroutine(serve(client.caller, request))
        for _ in range(6):
            client.clock.advance(0)
        return serving

    def ask(self, line: str) -> dict[str, Any]:
        """The answer."""
        return self.successResultOf(self.begin(line))

    def refused(self, line: str, client: Client | None = None) -> OperatorError:
        """The refusal."""
        error = self.failureResultOf(self.begin(line, client), OperatorError).value
        assert isinstance(error, OperatorError)
        return error


class WordTests(CommandTestCase):
    """What is understood."""

    def test_unknown(self) -> None:
        """A command that is not there is refused, with one that is meant perhaps."""
        error = self.refused("sesions")
        self.assertEqual(error.code, "unknown-command")
        self.assertIn("did you mean 'sessions'", str(error))
        self.assertIn("'help' lists", str(self.refused("xyzzy")))

    def test_usage(self) -> None:
        """Words too many or too few, and options that do not belong, are refused with the usage."""
        for line in ("status now", "session", "session 1 2", "status rule=web", "explain a"):
            error = self.refused(line)
            self.assertEqual(error.code, "bad-request")
            self.assertIn("usage: ", str(error))

    def test_states(self) -> None:
        """Sessions can be asked for by every state in which they can be seen."""
        for state in set(State) - {State.ACCEPTED, State.CLOSED}:
            self.assertIn("sessions", self.ask(f"sessions state={state.value}"))

    def test_values(self) -> None:
        """Values that cannot be meant are refused, and the option is named."""
        for line in (
            "sessions limit=0",
            f"rules limit={MAX_ROWS + 1}",
            "sessions limit=x",
            "sessions sort=size",
            "sessions state=closed",
            "sessions client=10.0.0.0/99",
            "top interval=1ms",
            "target web 10.0.0.5:80 gone",
            "top interval=x",
            "tap 1 limit=0",
            "tap 1 limit=1GiB",
            "tap 1 direction=left",
            "session one",
        ):
            self.assertEqual(self.refused(line).code, "bad-request", line)

    def test_levels(self) -> None:
        """Who may only look cannot do what steers; the table says which that is."""
        reader = Client(self.operator, Level.READ)
        examples = {
            "tap": "tap 1",
            "kill": "kill 1",
            "drain": "drain web",
            "pause": "pause web",
            "resume": "resume web",
        }
        for command in COMMANDS.values():
            if command.level is Level.OPERATOR:
                error = self.refused(examples.get(command.name, command.name), reader)
                self.assertEqual(error.code, "forbidden", command.name)
        for line in ("faults lab on", "log-level debug"):
            self.assertEqual(self.refused(line, reader).code, "forbidden")
        self.assertEqual(self.operator.asked, [])
        self.assertEqual(reader.steered, 0)

    def test_help(self) -> None:
        """Help lists every command, with its usage and its level."""
        rows = self.ask("help")["commands"]
        self.assertEqual([row["name"] for row in rows], list(COMMANDS))
        for row in rows:
            self.assertEqual(shlex.split(row["usage"])[0], row["name"])
            self.assertIn(row["level"], ("read", "operator"))


class LookTests(CommandTestCase):
    """Commands that only look."""

    def test_status(self) -> None:
        """Status is the forwarder's."""
        self.assertEqual(self.ask("status"), {"state": "running"})

    def test_rules(self) -> None:
        """Rules come by pages, with the count of all."""
        self.operator.rule_views = [evolve(RULE, name=f"r{number}") for number in range(5)]
        page = self.ask("rules start=1 limit=2")
        self.assertEqual((page["count"], page["start"]), (5, 1))
        self.assertEqual([row["name"] for row in page["rules"]], ["r1", "r2"])

    def test_sessions(self) -> None:
        """Sessions come by number unless another order is asked for; the count is of all that fit."""
        self.sessions[1].up = FlowSummary(900)
        self.assertEqual([row["id"] for row in self.ask("sessions")["sessions"]], [1, 2, 3])
        found = self.ask("sessions sort=bytes limit=2")
        self.assertEqual(([row["id"] for row in found["sessions"]], found["count"]), ([2, 1], 3))
        found = self.ask("sessions after=1 limit=1")
        self.assertEqual(([row["id"] for row in found["sessions"]], found["count"]), ([2], 2))
        found = self.ask("sessions sort=bytes start=1 limit=2")
        self.assertEqual(([row["id"] for row in found["sessions"]], found["start"]), ([1, 3], 1))
        self.assertEqual(self.ask("sessions start=3")["sessions"], [])

    def test_sessions_that_fit(self) -> None:
        """They can be chosen by rule, client and state."""
        self.sessions[0].state = State.DIALING
        found = self.ask("sessions rule=web client=192.0.2.* state=dialing")["sessions"]
        self.assertEqual([row["id"] for row in found], [1])
        self.assertEqual(self.ask("sessions client=unix")["count"], 0)
        self.assertEqual(self.refused("sessions rule=none").code, "not-found")

    def test_session(self) -> None:
        """One session says more."""
        found = self.ask("session 2")["session"]
        self.assertEqual((found["id"], found["client_stream"]), (2, "<stream>"))
        self.assertEqual(self.refused("session 99").code, "not-found")

    def test_top(self) -> None:
        """Top looks as often as it is asked to."""
        self.assertEqual(self.ask("top count=1 sort=down-rate limit=1 interval=2s")["looks"], 1)
        self.assertEqual(len(self.client.events[0]["rows"]), 1)

    def test_changes(self) -> None:
        """Lines of the log come from the oldest on; of more than are asked for the latest."""
        found = self.ask("changes after=1")
        self.assertEqual((found["last"], [one["number"] for one in found["changes"]]), (3, [2, 3]))
        self.assertEqual([one["text"] for one in self.ask("changes limit=1")["changes"]], ["line 3"])

    def test_explain(self) -> None:
        """Explain is the forwarder's."""
        self.assertEqual(self.ask("explain 192.0.2.1 :80")["text"], "192.0.2.1 to :80")


class SteerTests(CommandTestCase):
    """Commands that change something."""

    def test_kill_numbers(self) -> None:
        """Sessions are killed by their numbers; if one of them is not there, none is."""
        self.assertEqual(self.ask("kill 1 3"), {"killed": 2})
        self.assertEqual(
            [one.killed for one in self.sessions], [CloseReason.KILLED, None, CloseReason.KILLED]
        )
        self.assertEqual(self.client.steered, 1)
        self.assertEqual(self.refused("kill 2 99").code, "not-found")
        self.assertIsNone(self.sessions[1].killed)

    def test_kill_those_that_fit(self) -> None:
        """Sessions are selected by rule, client and state; a bare 'kill' is refused."""
        self.sessions[0].state = State.DIALING
        self.assertEqual(self.ask("kill rule=web state=relaying"), {"killed": 2})
        self.assertIsNone(self.sessions[0].killed)
        for line in ("kill", "kill 1 rule=web"):
            self.assertEqual(self.refused(line).code, "bad-request")

    def test_kill_spares_who_comes_meanwhile(self) -> None:
        """A client that a killed session lets in is not killed."""
        newcomer = FakeSession(9)
        kill = self.operator.kill

        def lets_another_in(session: LiveSession) -> None:
            kill(session)
            if newcomer not in self.operator.open:
                self.operator.open.append(newcomer)

        with mock.patch.object(self.operator, "kill", lets_another_in):
            self.assertEqual(self.ask("kill rule=web"), {"killed": 3})
        self.assertIsNone(newcomer.killed)

    def test_rules(self) -> None:
        """Rules are drained, paused and resumed by their names."""
        for command in ("drain", "pause", "resume"):
            self.assertEqual(self.ask(f"{command} web"), {"rules": ["web"]})
        self.assertEqual(self.operator.asked, [("drain", "web"), ("pause", "web"), ("resume", "web")])

    def test_faults(self) -> None:
        """Faults are shown, switched, and set; all of a rule, or one by its number or kind."""
        (row,) = self.ask("faults")["faults"]
        self.assertEqual(row["kind"], "latency")
        for line in ("faults lab", "faults lab on", "faults lab off 2", "faults lab set latency delay=1s"):
            self.ask(line)
        self.assertEqual(
            self.operator.asked,
            [
                ("faults", None),
                ("faults", "lab"),
                ("set_faults", "lab", "all", True, {}),
                ("set_faults", "lab", "2", False, {}),
                ("set_faults", "lab", "latency", None, {"delay": "1s"}),
            ],
        )

    def test_bad_faults(self) -> None:
        """What does not go together is refused."""
        for line in (
            "faults delay=1s",
            "faults lab delay=1s",
            "faults lab set",
            "faults lab on delay=1s",
            "faults lab up",
        ):
            self.assertEqual(self.refused(line).code, "bad-request", line)

    def test_log_level(self) -> None:
        """The level is shown, or set."""
        self.assertEqual(self.ask("log-level"), {"level": "info"})
        self.assertEqual(self.client.steered, 0)
        self.assertEqual(self.ask("log-level debug"), {"level": "debug"})
        self.assertEqual(self.client.steered, 1)

    def test_tap(self) -> None:
        """A tap goes on until its limit."""
        tapping = self.begin("tap 1 limit=2 direction=down")
        assert self.operator.saw is not None
        self.operator.saw(TO_CLIENT, b"abc")
        self.client.clock.advance(1)
        self.assertEqual(self.successResultOf(tapping)["to_client"], 2)

    def test_reload(self) -> None:
        """A reload, or a dry run of one, without or with code of filters."""
        self.assertTrue(self.ask("reload")["applied"])
        self.assertFalse(self.ask("reload dry-run")["applied"])
        self.assertFalse(self.ask("reload code dry-run")["applied"])
        self.assertEqual(self.refused("reload code code").code, "bad-request")
        self.assertEqual(self.refused("reload wet-run").code, "bad-request")
        self.assertEqual(
            self.operator.asked, [("reload", False, False), ("reload", True, False), ("reload", True, True)]
        )

    def test_stop(self) -> None:
        """Stop stops."""
        self.assertEqual(self.ask("stop"), {"stopping": True})
        self.assertEqual(self.operator.asked, [("stop",)])


class TargetTests(CommandTestCase):
    """``targets`` and ``target``."""

    def test_targets(self) -> None:
        """Targets of a rule or of all, in pages; each row says all there is."""
        answer = self.ask("targets web limit=1")
        self.assertEqual((answer["start"], answer["more"], len(answer["targets"])), (0, True, 1))
        (row,) = answer["targets"]
        self.assertEqual((row["state"], row["since"], row["failures"]), ("down", 75.0, 4))
        self.assertEqual(
            row["checks"],
            [{"name": "tcp", "passing": False, "cause": "refused", "seconds": 0.0012, "problem": ""}],
        )
        self.assertFalse(self.ask("targets start=1")["more"])
        self.assertEqual(self.operator.asked, [("targets", "web", 0), ("targets", None, 1)])

    def test_target(self) -> None:
        """Only operators override a target's state, by one of four words."""
        self.assertEqual(self.ask("target web 10.0.0.5:80 drain"), {"rules": ["web"]})
        self.assertEqual(self.operator.asked, [("order_target", "web", "10.0.0.5:80", "drain")])
        self.assertEqual(self.refused("target web 10.0.0.5:80 gone").code, "bad-request")
        reader = Client(self.operator, Level.READ)
        self.assertEqual(self.refused("target web 10.0.0.5:80 up", reader).code, "forbidden")
