"""Tests of `portfwd.filters.builtin.socks5`: conversations with clients."""

from __future__ import annotations

from typing import Any

from portfwd.errors import (
    ConnectFailed,
    ConnectRefused,
    ConnectTimedOut,
    DialError,
    NameNotResolved,
    OutOfResources,
    TLSFailed,
)
from portfwd.filters import InetAddress
from portfwd.filters.builtin.proxies import ProxyOptions
from portfwd.filters.builtin.socks5 import PLUGIN
from portfwd.filters.builtin.users import hash_password, read_users
from portfwd.filters.clause_reading import read_options
from portfwd.filters.option_kinds import OptionFiles
from portfwd.filters.options import networks
from tests.filters.feeding import FilterTestCase, Talk

USERS_FILE = hash_password("alice", "secret", b"sixteen bytes...", 1000)
USERS = read_users(USERS_FILE)

ANYBODY = b"\x05\x01\x00"
LOGIN = b"\x05\x02\x00\x02"
ALICE = b"\x01\x05alice\x06secret"
NAME = b"\x05\x01\x00\x03\x0bexample.com\x01\xbb"
LOOPBACK = b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50"
CONNECTED = b"\x05\x00\x00\x01" + bytes(6)


def socks5(**options: Any) -> Any:
    """Make a factory."""
    return PLUGIN.configure(ProxyOptions(**options), ())


class ConnectTests(FilterTestCase):
    """Requests that are served."""

    def test_conversation(self) -> None:
        """Greeting, request, answer; then bytes pass as they are."""
        talk = Talk(socks5())
        talk.say(ANYBODY)
        self.assertEqual((talk.client, talk.dial), (b"\x05\x00", None))
        talk.say(NAME)
        self.assertEqual(talk.target, InetAddress("example.com", 443))
        self.assertEqual(talk.client, b"\x05\x00" + CONNECTED)
        talk.say(b"\x16\x03")
        self.assertEqual((talk.upstream, talk.finish), ([b"\x16\x03"], None))

    def test_in_any_pieces(self) -> None:
        """A client that sends everything at once, or byte by byte, gets the same answers."""
        talk = self.talk(socks5(), data=ANYBODY + NAME + b"hello")
        self.assertEqual(talk.client, b"\x05\x00" + CONNECTED)
        self.assertEqual(b"".join(talk.upstream), b"hello")

    def test_password(self) -> None:
        """With users the client has to log in, even if it offers to go without."""
        talk = self.talk(socks5(users=USERS), data=LOGIN + ALICE + NAME + b"hello")
        self.assertEqual(talk.client, b"\x05\x02" + b"\x01\x00" + CONNECTED)
        self.assertEqual((talk.target, b"".join(talk.upstream)), (InetAddress("example.com", 443), b"hello"))


class RefuseTests(FilterTestCase):
    """Clients that get nothing."""

    def check(self, data: bytes, replied: bytes, reason: str, **options: Any) -> None:
        """The client gets `replied`, and nothing is dialled."""
        talk = self.talk(socks5(**options), data=data)
        self.assertEqual((talk.client, talk.dial, talk.upstream), (replied, None, []))
        self.assertIn(reason, talk.reason)

    def test_methods(self) -> None:
        """A client without a method that will do is told so: without users a password is none."""
        self.check(ANYBODY, b"\x05\xff", "log in", users=USERS)
        self.check(b"\x05\x01\x02", b"\x05\xff", "log in")
        self.check(b"\x05\x01\x01", b"\x05\xff", "log in")

    def test_password(self) -> None:
        """A wrong password is told and closed; what came behind it is not looked at."""
        for wrong in (b"\x01\x05alice\x06secreT", b"\x01\x03eve\x06secret", b"\x01\x00\x00"):
            self.check(LOGIN + wrong + NAME, b"\x05\x02\x01\x01", "wrong SOCKS password", users=USERS)

    def test_no_password(self) -> None:
        """The password cannot be skipped."""
        self.check(LOGIN + NAME, b"\x05\x02\x01\x01", "password message", users=USERS)

    def test_commands(self) -> None:
        """BIND and UDP ASSOCIATE are not served."""
        for command in (b"\x02", b"\x03"):
            data = ANYBODY + b"\x05" + command + NAME[2:]
            self.check(data, b"\x05\x00\x05\x07\x00\x01" + bytes(6), "not CONNECT")

    def test_malformed(self) -> None:
        """Other protocols get no answer; unknown types of addresses and bad names get their codes."""
        self.check(b"GET / HTTP/1.1\r\n\r\n", b"", "not SOCKS 5")
        self.check(b"\x04\x01\x00\x50", b"", "not SOCKS 5")
        self.check(ANYBODY + b"\x05\x01\x00\x02\x00", b"\x05\x00\x05\x08\x00\x01" + bytes(6), "unknown type")
        bad = b"\x05\x01\x00\x03\x03a b\x00\x50"
        self.check(ANYBODY + bad, b"\x05\x00\x05\x01\x00\x01" + bytes(6), "no host name")

    def test_end_and_time(self) -> None:
        """A client that ends or stops too early is closed."""
        self.assertIn("before its SOCKS request", Talk(socks5()).say(ANYBODY).end().reason)
        for options, seconds in (({}, 10.0), ({"timeout": 3.0}, 3.0)):
            talk = Talk(socks5(**options)).say(ANYBODY)
            self.assertEqual(talk.wait(), seconds)
            self.assertIsNone(talk.dial)


class DialTests(FilterTestCase):
    """What the client is told of the dial."""

    def test_failures(self) -> None:
        """Each failure has its code."""
        for kind, code in (
            (ConnectRefused, 5), (ConnectTimedOut, 4), (NameNotResolved, 4), (ConnectFailed, 1),
            (TLSFailed, 1), (OutOfResources, 1), (DialError, 1),
        ):  # fmt: skip
            talk = self.talk(socks5(), data=ANYBODY + NAME, problem=kind("no"))
            self.assertEqual(talk.client, b"\x05\x00" + bytes([5, code, 0, 1]) + bytes(6))
            self.assertEqual(talk.upstream, [])

    def test_not_permitted(self) -> None:
        """Where every address was refused, the client is told that it is not allowed."""
        loopback, other = InetAddress("127.0.0.1", 80), InetAddress("192.0.2.1", 80)
        for asked, code in (([loopback], 2), ([loopback, other], 1)):
            talk = Talk(socks5(), problem=ConnectFailed("no"), asked=asked).say(ANYBODY + LOOPBACK)
            self.assertEqual(talk.client, b"\x05\x00" + bytes([5, code, 0, 1]) + bytes(6))

    def test_permits(self) -> None:
        """Destinations are as the rule says: by default all but the loopback, with allow nothing else."""
        for options, good, bad in (
            ({}, "192.0.2.1", "127.0.0.1"),
            ({"allow": networks("127.0.0.0/8")}, "127.0.0.1", "192.0.2.1"),
            ({"deny": networks("192.0.2.0/24")}, "198.51.100.1", "192.0.2.1"),
            ({"deny": networks("192.0.2.0/24")}, "198.51.100.1", "127.0.0.1"),
        ):
            talk = self.talk(socks5(**options), data=ANYBODY + NAME)
            assert talk.dial is not None
            assert talk.dial.permits is not None
            self.assertTrue(talk.dial.permits(InetAddress(good, 1)))
            self.assertFalse(talk.dial.permits(InetAddress(bad, 1)))


class OptionsTests(FilterTestCase):
    """What the clause takes."""

    def read(self, text: str) -> Any:
        """Read a clause whose users are in a file with that text."""
        files = OptionFiles(read=lambda path: text, absolute=lambda path: path)
        return read_options(ProxyOptions, (), [("users", "people.txt"), ("deny", "10.0.0.0/8")], files)

    def test_users(self) -> None:
        """The file is read with the rules; one that is wrong is told of with its line."""
        options = self.read(USERS_FILE)
        self.assertTrue(options.users.admits(b"alice", b"secret"))
        self.assertNotIn("secret", repr(options))
        [problem] = self.read("alice:secret")
        self.assertIn("people.txt: line 1: expected a hash", problem.message)
