"""Tests of the check ``mysql``."""

from __future__ import annotations

from portfwd.upstreams.checks.mysql import DENIED, QUIT, packet
from tests.upstreams.checks.talking import SUBJECT, CheckCase, check

GREETING = packet(0, b"\x0a8.0.36\0" + bytes(60))


class MySQLTests(CheckCase):
    """Greetings and logins."""

    def test_greeting(self) -> None:
        """A server that does not greet as one is not well."""
        self.assertEqual(
            self.judge(check("mysql"), packet(0, b"\x09old\0")), (False, "protocol 9 and not 10")
        )
        blocked = packet(0, b"\xff\x69\x04Host is blocked")
        self.assertEqual(self.judge(check("mysql"), blocked), (False, "Host is blocked"))

    def test_nobody(self) -> None:
        """Without a user nobody logs in, so the handshake has an end, whether the server denies it or not."""
        made = check("mysql")
        said, _ = self.say(made.begin(SUBJECT), GREETING)
        self.assertIn(b"portfwd-check\0\0mysql_native_password\0", said[1])
        for code in DENIED:
            denied = packet(2, b"\xff" + code.to_bytes(2, "little") + b"#28000Access denied")
            self.assertEqual(self.judge(made, GREETING, denied), (True, "version 8.0.36"))
        self.assertEqual(self.judge(made, GREETING, packet(2, b"\x00\0\0")), (True, "version 8.0.36"))
        stopping = packet(2, b"\xff\x1d\x04#08S01Server shutdown in progress")
        self.assertEqual(self.judge(made, GREETING, stopping), (False, "Server shutdown in progress"))
        early = packet(0, b"\xff\x15\x04#28000Access denied")
        self.assertEqual(self.judge(made, early), (False, "Access denied"))

    def test_login(self) -> None:
        """With a user it logs in without a password, and says good-bye."""
        made = check("mysql", user="probe")
        said, last = self.say(made.begin(SUBJECT), GREETING, packet(2, b"\x00\0\0\2\0\0\0"))
        self.assertIn(b"probe\0\0mysql_native_password\0", said[1])
        self.assertEqual(said[1][3], 1)
        self.assertEqual(last.send, QUIT)
        self.assertEqual(
            self.judge(made, GREETING, packet(2, b"\x00\0\0\2\0\0\0")),
            (True, "version 8.0.36, probe is logged in"),
        )
        denied = packet(2, b"\xff\x15\x04#28000Access denied")
        self.assertEqual(self.judge(made, GREETING, denied), (False, "Access denied"))
        self.assertFalse(self.judge(made, GREETING, packet(2, b"\x05?"))[0])

    def test_other_ways(self) -> None:
        """Another plug-in is answered by the empty password; the word that it is good is waited behind."""
        made = check("mysql", user="probe")
        events = (
            GREETING,
            packet(2, b"\xfecaching_sha2_password\0salt"),
            packet(4, b"\x01\x03"),
            packet(5, b"\x00\0\0"),
        )
        said, last = self.say(made.begin(SUBJECT), *events)
        self.assertEqual(said[2], packet(3, b""))
        assert last.verdict is not None
        self.assertTrue(last.verdict.passed)
        _, together = self.say(made.begin(SUBJECT), GREETING, events[2] + events[3])
        self.assertEqual(together.verdict, last.verdict)

    def test_no_mysql(self) -> None:
        """What sends no packets fails."""
        self.assertEqual(self.judge(check("mysql"), b"HTTP/1.1 400 Bad"), (False, "no greeting of MySQL"))
