"""Tests of the way from a command to a forwarder."""

from __future__ import annotations

import os
import socket
import threading

from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.answers import answer, greeting
from portfwd.cli import control
from portfwd.cli.control import DEFAULT_PATH, VARIABLE, Control, ControlError
from portfwd.cli.main import make_parser
from tests.cli.scripted import ControlTestCase


class ControlTests(ControlTestCase):
    """A connection."""

    def control(self, timeout: float = 20.0) -> Control:
        made = Control(self.forwarder.path, timeout)
        self.addCleanup(made.close)
        return made

    def test_ask(self) -> None:
        """A question, with what was said in it, and its answer; one after the other."""
        self.forwarder.says("sessions", {"count": 1}, {"count": 2})
        with self.control() as asking:
            self.assertEqual(asking.level, "operator")
            self.assertEqual(asking.ask("sessions", (), {"rule": "my web", "client": None}), {"count": 1})
            self.assertEqual(asking.ask("sessions"), {"count": 2})
            self.assertIn(self.forwarder.path, repr(asking))
        self.assertEqual(self.forwarder.lines()[0], ("sessions", (), {"rule": "my web"}))

    def test_events(self) -> None:
        """Events come before the answer; who only asks does not see them."""
        self.forwarder.says("top", {"looks": 2}, events=[{"n": 1}, {"n": 2}])
        asking = self.control()
        self.assertEqual(list(asking.watch("top")), [{"n": 1}, {"n": 2}, {"result": {"looks": 2}}])
        self.assertEqual(asking.ask("top"), {"looks": 2})

    def test_refusal(self) -> None:
        """A refusal is an error, with its word and its lines."""
        self.forwarder.refuses("reload", "bad-rules", "no", lines=["no", "line 3"])
        error = self.assertRaises(ControlError, self.control().ask, "reload")
        self.assertEqual((str(error), error.code, error.lines), ("no", "bad-rules", ("no", "line 3")))
        self.assertEqual(error.exit_code, 2)
        self.assertEqual(ControlError("x", "refused").exit_code, 1)

    def test_pending(self) -> None:
        """What came together is known to be there."""
        self.forwarder.says("top", {}, events=[{"n": 1}])
        asking = self.control()
        asking.send("top")
        self.assertFalse(asking.pending)
        asking.receive()
        self.assertTrue(asking.pending)
        self.assertEqual(asking.receive(), (None, {}))

    def test_bad_words(self) -> None:
        """What cannot be said is an error of the command line."""
        error = self.assertRaises(ControlError, self.control().send, "session", ("\x1b",))
        self.assertEqual(error.exit_code, 2)

    def test_gone(self) -> None:
        """A forwarder that closes the connection has gone."""
        asking = self.control()
        error = self.assertRaises(ControlError, asking.ask, "status")
        self.assertIn("closed the connection", str(error))
        self.forwarder.close()
        # The other end is closed: whatever is sent is answered with EPIPE.
        error = self.assertRaises(ControlError, asking.ask, "status")
        self.assertIn("the connection to the forwarder is lost", str(error))

    def test_no_portfwd(self) -> None:
        """What answers something else is no forwarder; another protocol is another version."""
        for hello, expected in (
            (b"220 mail.example ESMTP\n", "is not a control socket"),
            (b"[1]\n", "is not a control socket"),
            (b'{"portfwd":"9","protocol":2}\n', "is portfwd 9 with protocol 2 of"),
            (answer({}), "is portfwd ? with protocol None of"),
        ):
            self.forwarder.hello = hello
            error = self.assertRaises(ControlError, Control, self.forwarder.path)
            self.assertIn(expected, str(error))

    def test_endless(self) -> None:
        """An answer without an end is given up."""
        self.patch(control, "MAX_ANSWER", 1000)
        self.forwarder.hello = b"x" * 5000
        self.assertIn(
            "more than 1000 bytes", str(self.assertRaises(ControlError, Control, self.forwarder.path))
        )

    def test_silent(self) -> None:
        """Who does not answer in time does not answer."""
        self.forwarder.hello = b""
        error = self.assertRaises(ControlError, Control, self.forwarder.path, 0.05)
        self.assertIn("does not answer", str(error))

    def test_reset(self) -> None:
        """A connection that breaks is told as such."""
        path = str(self.directory / "resets.sock")
        accepted: list[socket.socket] = []

        def greet() -> None:
            accepted.append(listening.accept()[0])
            accepted[0].sendall(greeting("1.2.3", "operator"))

        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            thread = threading.Thread(target=greet)
            thread.start()
            asking = Control(path)
            thread.join()
        self.addCleanup(asking.close)
        asking.send("status")
        accepted[0].close()  # with bytes that were not read: a reset
        error = self.assertRaises(ControlError, asking.receive)
        self.assertIn("the forwarder", str(error))

    def test_cannot_connect(self) -> None:
        """If no forwarder listens or the user has no permission, the message has a hint."""
        missing = str(self.directory / "none.sock")
        error = self.assertRaises(ControlError, Control, missing)
        self.assertIn(f"does it run, with the directive 'admin unix:{missing}'?", str(error))
        self.assertIn("No such file", str(error))
        self.assertIn("mode=", control.cannot_connect("x", PermissionError(13, "Permission denied")))
        self.assertTrue(control.cannot_connect("x", OSError(5, "Input/output error")).endswith("error"))


class CommandTests(ControlTestCase):
    """What all commands have."""

    def test_error(self) -> None:
        """What goes wrong stands on standard error, escaped; the exit code says whose fault it is."""
        self.forwarder.refuses(
            "reload", "bad-rules", "refused\x1b", lines=["refused", "rules.conf:3: no\x1b"]
        )
        code, out, err = self.run_there("reload")
        self.assertEqual((code, out), (2, ""))
        self.assertEqual(err, "portfwd: refused\\x1b\n  rules.conf:3: no\\x1b\n")
        code, _, err = self.run_main("status", "--socket", "/nonexistent/x")
        self.assertEqual(code, 1)
        self.assertIn("cannot reach a forwarder at /nonexistent/x", err)

    def test_json(self) -> None:
        """For programs the answer is printed as it came."""
        self.forwarder.says("log-level", {"level": "info"})
        self.assertEqual(self.json_of("log-level"), {"level": "info"})


class PathTests(SynchronousTestCase):
    """Where the socket is."""

    def test_order(self) -> None:
        """The option, else the environment, else the place of a packaged forwarder."""
        environment = dict(os.environ)
        environment.pop(VARIABLE, None)
        self.patch(os, "environ", environment)
        self.assertEqual(make_parser().parse_args(["status"]).socket, DEFAULT_PATH)
        environment[VARIABLE] = "/env"
        self.assertEqual(make_parser().parse_args(["status"]).socket, "/env")
        self.assertEqual(make_parser().parse_args(["status", "--socket", "/opt"]).socket, "/opt")
