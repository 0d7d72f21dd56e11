"""Tests of the commands that steer a forwarder."""

from __future__ import annotations

from portfwd.admin.answers import fault_row
from tests.admin.fakes import FAULT
from tests.cli.scripted import ControlTestCase


class SteeringTests(ControlTestCase):
    """What is asked for, and what is printed."""

    def test_kill(self) -> None:
        """By numbers, or by what fits."""
        self.forwarder.says("kill", {"killed": 2}, {"killed": 1})
        self.assertEqual(self.run_there("kill", "7", "8"), (0, "2 sessions killed\n", ""))
        self.assertEqual(
            self.run_there("kill", "--rule", "web", "--client", "10.*"), (0, "1 session killed\n", "")
        )
        self.assertEqual(
            self.forwarder.lines(),
            [("kill", ("7", "8"), {}), ("kill", (), {"rule": "web", "client": "10.*"})],
        )

    def test_rules(self) -> None:
        """Drain, pause and resume say for which ports they hold."""
        for command, done in (("drain", "draining"), ("pause", "paused"), ("resume", "accepting")):
            self.forwarder.says(command, {"rules": ["web:80", "web:81"]})
            self.assertEqual(self.run_there(command, "web"), (0, f"web:80: {done}\nweb:81: {done}\n", ""))
            self.assertEqual(self.forwarder.lines()[-1], (command, ("web",), {}))

    def test_faults(self) -> None:
        """Faults are shown, switched and set; options stand where they like."""
        self.forwarder.says("faults", {"faults": [fault_row(FAULT)]})
        self.assertEqual(
            self.run_there("faults"),
            (
                0,
                "RULE  NUMBER  FAULT    STATE  AFFECTED  OPTIONS\n"
                "lab        1  latency  on       2 of 4  delay=10ms\n",
                "",
            ),
        )
        self.run_there("faults", "lab")
        self.run_there("faults", "lab", "off", "2")
        self.run_there("faults", "lab", "set", "latency", "delay=1s", "jitter=0.1s")
        self.assertEqual(
            self.forwarder.lines(),
            [
                ("faults", (), {}),
                ("faults", ("lab",), {}),
                ("faults", ("lab", "off", "2"), {}),
                ("faults", ("lab", "set", "latency"), {"delay": "1s", "jitter": "0.1s"}),
            ],
        )

    def test_fault_off(self) -> None:
        """A fault that is off shows it."""
        self.forwarder.says("faults", {"faults": [fault_row(FAULT) | {"active": False}]})
        self.assertIn(" off ", self.run_there("faults")[1])

    def test_log_level(self) -> None:
        """The level is shown, or set."""
        self.forwarder.says("log-level", {"level": "warn"})
        self.assertEqual(self.run_there("log-level"), (0, "warn\n", ""))
        self.assertEqual(self.run_there("log-level", "warn"), (0, "warn\n", ""))
        self.assertEqual(self.forwarder.lines(), [("log-level", (), {}), ("log-level", ("warn",), {})])

    def test_reload(self) -> None:
        """The difference is printed; nothing is changed in a dry run."""
        self.forwarder.says("reload", {"applied": True, "lines": ["1 added", "+ web\x1b"]})
        self.assertEqual(self.run_there("reload"), (0, "1 added\n+ web\\x1b\n", ""))
        self.assertEqual(self.run_there("reload", "--dry-run")[0], 0)
        self.assertEqual(self.forwarder.lines(), [("reload", (), {}), ("reload", ("dry-run",), {})])

    def test_stop(self) -> None:
        """Stop says that it does."""
        self.forwarder.says("stop", {"stopping": True})
        self.assertEqual(self.run_there("stop"), (0, "stopping\n", ""))
