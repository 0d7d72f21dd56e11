"""Tests of the check ``pgsql``."""

from __future__ import annotations

from portfwd.upstreams.checks.pgsql import QUESTION, TERMINATE, message
from tests.upstreams.checks.talking import SUBJECT, CheckCase, check

OK = message(b"R", b"\0\0\0\0")
READY = message(b"Z", b"I")
START = message(b"", b"\0\3\0\0user\0probe\0database\0postgres\0application_name\0portfwd\0\0")


def standby(value: bytes) -> bytes:
    """What a server since version 14 says of itself."""
    return message(b"S", b"in_hot_standby\0" + value + b"\0") + message(b"S", b"server_version\0" + b"16\0")


class PgSQLTests(CheckCase):
    """Logins and roles."""

    def test_any(self) -> None:
        """For any role a server that asks for a password takes connections; one that starts up does not."""
        made = check("pgsql", user="probe")
        scram = message(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0")
        self.assertEqual(self.judge(made, scram, sent=[START]), (True, "it accepts connections"))
        starting = message(b"E", b"SFATAL\0C57P03\0Mthe database system is starting up\0\0")
        self.assertEqual(self.judge(made, starting), (False, "the database system is starting up"))
        self.assertEqual(self.judge(made, b"HTTP/1.1 400"), (False, "no answer of PostgreSQL"))

    def test_roles(self) -> None:
        """The server says after the login whether it is in hot standby."""
        for role, value, said in (
            ("primary", b"off", (True, "it is the primary")),
            ("primary", b"on", (False, "it is a replica")),
            ("replica", b"on", (True, "it is a replica")),
            ("replica", b"off", (False, "it is the primary")),
        ):
            made = check("pgsql", user="probe", role=role)
            self.assertEqual(self.judge(made, OK + standby(value), READY, sent=[START, TERMINATE]), said)

    def test_older(self) -> None:
        """An older server is asked by a query."""
        made = check("pgsql", user="probe", role="primary")
        row = message(b"D", b"\0\1\0\0\0\1f")
        question = message(b"Q", QUESTION)
        self.assertEqual(
            self.judge(made, OK + READY, row + READY, sent=[START, question, TERMINATE]),
            (True, "it is the primary"),
        )
        self.assertFalse(self.judge(made, OK + READY, message(b"D", b"\0\1\0\0\0\1t") + READY)[0])
        self.assertEqual(self.judge(made, OK + READY, READY)[1], "it does not say its role")

    def test_passwords(self) -> None:
        """In clear text and by MD5; without a password it says what is missing."""
        made = check("pgsql", user="probe", role="primary", password_file="/secret")
        clear, md5 = message(b"R", b"\0\0\0\3"), message(b"R", b"\0\0\0\5salt")
        self.assertTrue(
            self.judge(
                made,
                clear,
                OK + standby(b"off") + READY,
                sent=[START, message(b"p", b"hunter2\0"), TERMINATE],
            )[0]
        )
        said, _ = self.say(made.begin(SUBJECT), md5)
        self.assertRegex(said[1], rb"\Ap\0\0\0\((md5[0-9a-f]{32}\0)\Z")
        bare = check("pgsql", user="probe", role="primary")
        self.assertIn("there is no password-file=", self.judge(bare, clear)[1])
        unknown = message(b"R", b"\0\0\0\7")
        self.assertIn("not understood", self.judge(made, unknown)[1])

    def test_scram(self) -> None:
        """By SCRAM-SHA-256; a server that does not know the password fails."""
        made = check("pgsql", user="probe", role="primary", password_file="/secret")
        ask = message(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0")
        nonce = SUBJECT.token + "more"
        go_on = message(b"R", b"\0\0\0\x0b" + f"r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode())
        said, _ = self.say(made.begin(SUBJECT), ask, go_on)
        self.assertIn(b"SCRAM-SHA-256\0\0\0\0", said[1])
        self.assertIn(f"c=biws,r={nonce},p=".encode(), said[2])
        wrong = message(b"R", b"\0\0\0\x0cv=AAAA")
        self.assertEqual(
            self.judge(made, ask, go_on, wrong), (False, "the server does not know the password")
        )
