"""Tests of the checks ``tcp``, ``tls``, ``send``, ``expect`` and ``exec``."""

from __future__ import annotations

from portfwd.upstreams.checks.api import CheckCarrier
from tests.upstreams.checks.talking import SUBJECT, CheckCase, check


class ConnectTests(CheckCase):
    """Checks that pass when the target is connected."""

    def test_connected(self) -> None:
        """Nothing is sent, and the connection is enough; ``tls`` wants TLS for it."""
        for name, carrier in (("tcp", CheckCarrier.STREAM), ("tls", CheckCarrier.TLS)):
            made = check(name)
            self.assertEqual(self.judge(made, sent=[]), (True, "connected"))
            self.assertIs(made.carrier, carrier)
            self.assertTrue(made.only_connects)


class SendTests(CheckCase):
    """``send`` and ``expect``."""

    def test_send(self) -> None:
        """What is expected may stand anywhere in the answer."""
        made = check(r"send PING\r\n expect +PONG")
        self.assertEqual(self.judge(made, b"+PONG\r\n", sent=[b"PING\r\n"]), (True, "got '+PONG'"))
        self.assertEqual(self.judge(made, b"-ERR", None), (False, "'+PONG' did not come, but '-ERR'"))
        closed = (False, "the connection was closed before there was an answer")
        self.assertEqual(self.judge(made, None), closed)

    def test_only_send(self) -> None:
        """Without anything to wait for it passes at once."""
        self.assertEqual(self.judge(check("send x"), sent=[b"x"]), (True, "sent"))

    def test_expect(self) -> None:
        """``expect`` sends nothing."""
        self.assertEqual(self.judge(check("expect 220"), b"220 ready\r\n", sent=[]), (True, "got '220'"))

    def test_word(self) -> None:
        """Between the two stands ``expect`` and no other word."""
        self.assertRaises(ValueError, check, "send x wants y")


class ExecTests(CheckCase):
    """``exec``."""

    def test_status(self) -> None:
        """Status 0 passes; the first line of the output is the cause."""
        made = check("exec /bin/check --quick")
        self.assertEqual(made.arguments(SUBJECT), ("/bin/check", "--quick"))
        said = [
            made.exited(0, b""),
            made.exited(0, b"fine\nmore"),
            made.exited(1, b"no"),
            made.exited(None, b""),
        ]
        self.assertEqual([one.passed for one in said], [True, True, False, False])
        self.assertEqual(
            [one.cause for one in said],
            ["exit status 0", "fine", "exit status 1: no", "killed by a signal"],
        )

    def test_missing(self) -> None:
        """A clause without a program is refused."""
        self.assertRaises(ValueError, check, "exec")
