"""Tests of `portfwd.admin.web.access`: who may ask."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.tight_files import LooseFile
from portfwd.admin.web.access import LONGEST_TOKEN, Access, read_token
from portfwd.rules.admin_lines import Level
from tests.places import short_directory

TOKEN = b"correct-horse-battery-staple"


class HostTests(SynchronousTestCase):
    """``Host``: names that others may control are refused."""

    def setUp(self) -> None:
        self.access = Access(Level.READ, frozenset({"portfwd.example.com"}))

    def test_taken(self) -> None:
        """The machine itself, literal addresses and listed names, with a port or without."""
        for host in (
            b"localhost",
            b"LOCALHOST:8080",
            b"localhost:",
            b"web.localhost:1",
            b"127.0.0.1:8080",
            b"192.0.2.7",
            b"[::1]:8080",
            b"[2001:db8::1]",
            b"Portfwd.example.com.",
            b"portfwd.example.com:443",
        ):
            self.assertIsNone(self.access.check_host([host]), host)
        self.assertIsNone(self.access.check_host([]))

    def test_refused(self) -> None:
        """Other names, several of them, and what is none."""
        for hosts in (
            [b"evil.example"],
            [b"127.0.0.1.evil.example"],
            [b"portfwd.example.com.evil.example"],
            [b"localhost.evil.example:8080"],
            [b""],
            [b"local host"],
            [b"localhost:80:80"],
            [b"user@localhost"],
            [b"[::1"],
            [b"::1"],
            [b"\xffhost"],
            [b"localhost", b"localhost"],
        ):
            refused = self.access.check_host(hosts)
            assert refused is not None, hosts
            self.assertEqual((refused.status, refused.code), (421, "bad-host"))


class OriginTests(SynchronousTestCase):
    """``Origin`` and ``Sec-Fetch-Site``: a page of another origin does not ask."""

    def check(self, host: bytes, origins: list[bytes], sites: list[bytes]) -> bool:
        """Whether it is refused."""
        return Access(Level.READ).check_origin([host], origins, sites) is not None

    def test_own(self) -> None:
        """The page itself, a person, and who is no browser may; behind TLS the scheme is another."""
        for origins, sites in (
            ([], []),
            ([b"http://localhost:8080"], [b"same-origin"]),
            ([b"https://localhost:8080"], []),
            ([b"http://LOCALHOST:8080"], []),
            ([], [b"none"]),
        ):
            self.assertFalse(self.check(b"localhost:8080", origins, sites))

    def test_foreign(self) -> None:
        """Others may not, nor another port of the same machine."""
        for origins, sites in (
            ([b"http://evil.example"], []),
            ([b"null"], []),
            ([b"http://localhost:3000"], []),
            ([b"http://localhost"], []),
            ([b"file://localhost:8080"], []),
            ([], [b"cross-site"]),
            ([], [b"same-site"]),
            ([b"http://localhost:8080"], [b"same-origin", b"cross-site"]),
        ):
            self.assertTrue(self.check(b"localhost:8080", origins, sites), (origins, sites))


class TokenTests(SynchronousTestCase):
    """``Authorization``, and the file of the token."""

    def setUp(self) -> None:
        self.path = str(short_directory(self) / "token")

    def write(self, data: bytes, mode: int = 0o600) -> str:
        """The file, with `data`."""
        with open(self.path, "wb") as file:
            file.write(data)
        os.chmod(self.path, mode)
        return self.path

    def test_none(self) -> None:
        """Without a configured token, requests need none."""
        access = Access(Level.READ)
        self.assertFalse(access.wants_token)
        self.assertIsNone(access.check_token([]))

    def test_token(self) -> None:
        """Where there is one, everybody needs it; it is kept out of texts."""
        access = Access(Level.OPERATOR, frozenset(), TOKEN)
        self.assertTrue(access.wants_token)
        for good in (b"Bearer " + TOKEN, b"bearer  " + TOKEN):
            self.assertIsNone(access.check_token([good]))
        for bad in ([], [b"Bearer"], [b"Bearer " + TOKEN[:-1]], [b"Basic " + TOKEN], [TOKEN]):
            refused = access.check_token(bad)
            assert refused is not None, bad
            self.assertEqual((refused.status, refused.code), (401, "unauthorized"))
        self.assertNotIn("horse", repr(access))

    def test_file(self) -> None:
        """A file has one word, with a line end or without."""
        for data in (TOKEN, TOKEN + b"\n", b"  " + TOKEN + b"\r\n"):
            self.assertEqual(read_token(self.write(data)), TOKEN)

    def test_bad_files(self) -> None:
        """Others may not read it; what is too short, too long or no word is refused, and is not shown."""
        for data, mode, said in (
            (TOKEN, 0o640, "accessible to others"),
            (TOKEN, 0o602, "accessible to others"),
            (b"", 0o600, "has no token"),
            (b"two words-and-many-letters", 0o600, "has no token"),
            ("café-is-no-ascii-token".encode(), 0o600, "has no token"),
            (b"too-short-secret"[:-1], 0o600, "token of 15 characters"),
            (b"x" * (LONGEST_TOKEN + 1), 0o600, "openssl rand"),
        ):
            error = self.assertRaises(LooseFile, read_token, self.write(data, mode))
            self.assertIn(said, str(error))
            self.assertNotIn("secret", str(error))
        self.assertRaises(OSError, read_token, self.path + "-gone")
