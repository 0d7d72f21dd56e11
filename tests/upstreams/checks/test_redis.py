"""Tests of the check ``redis``."""

from __future__ import annotations

from tests.upstreams.checks.talking import CheckCase, check

MASTER = b"*3\r\n$6\r\nmaster\r\n:3129659\r\n*0\r\n"
SLAVE = b"*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:14\r\n"


class RedisTests(CheckCase):
    """Questions and answers."""

    def test_ping(self) -> None:
        """A pong passes; an error is the cause."""
        ping = b"*1\r\n$4\r\nPING\r\n"
        self.assertEqual(self.judge(check("redis"), b"+PONG\r\n", sent=[ping]), (True, "PONG"))
        loading = b"-LOADING Redis is loading the dataset in memory\r\n"
        self.assertEqual(self.judge(check("redis"), loading), (False, loading.decode().strip()))

    def test_roles(self) -> None:
        """A role other than the wanted one fails, and so does a replica without its master."""
        for role, answer, said in (
            ("master", MASTER, (True, "its role is master")),
            ("slave", MASTER, (False, "its role is master")),
            ("slave", SLAVE, (True, "its role is slave")),
            ("master", SLAVE, (False, "its role is slave")),
            ("slave", SLAVE.replace(b"connected", b"connect"), (False, "its link to the master is connect")),
            ("master", b"-NOAUTH Authentication required.\r\n", (False, "-NOAUTH Authentication required.")),
        ):
            self.assertEqual(self.judge(check("redis", role=role), answer), said)

    def test_password(self) -> None:
        """With a password it authenticates first; a refusal is the cause."""
        made = check("redis", password_file="/secret", user="probe")
        auth = b"*3\r\n$4\r\nAUTH\r\n$5\r\nprobe\r\n$7\r\nhunter2\r\n*1\r\n$4\r\nPING\r\n"
        self.assertEqual(self.judge(made, b"+OK\r\n+PONG\r\n", sent=[auth]), (True, "PONG"))
        self.assertEqual(self.judge(made, b"-WRONGPASS no\r\n"), (False, "AUTH: -WRONGPASS no"))
