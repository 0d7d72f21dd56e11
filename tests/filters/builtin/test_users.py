"""Tests of `portfwd.filters.builtin.users`."""

from __future__ import annotations

import base64
import hashlib
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.builtin.users import MAX_USERS, Secret, hash_password, read_users

#: RFC 7914 section 11 has this vector of PBKDF2-HMAC-SHA-256: password "Password", salt "NaCl", 80000 rounds.
#: Its salt is too short for us, so only the secret itself is asked.
NACL = Secret((80000,), b"NaCl", bytes.fromhex(
    "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
    "a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d"
))  # fmt: skip
#: RFC 7914 section 12: password "pleaseletmein", salt "SodiumChloride", N=16384, r=8, p=1.
SODIUM = "sc:scrypt$16384$8$1${}${}".format(
    base64.b64encode(b"SodiumChloride").decode(),
    base64.b64encode(
        bytes.fromhex(
            "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
            "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
        )
    ).decode(),
)
SALT = b"sixteen bytes...."
ALICE = hash_password("alice", "secret", SALT, 1000)
BOB = hash_password("bob", "pässword", SALT, 1000)


class AdmitTests(SynchronousTestCase):
    """Who has which password."""

    def test_published(self) -> None:
        """Both hashes are those of RFC 7914."""
        self.assertTrue(NACL.matches(b"Password"))
        self.assertFalse(NACL.matches(b"password"))
        users = read_users(SODIUM)
        self.assertTrue(users.admits(b"sc", b"pleaseletmein"))
        self.assertFalse(users.admits(b"sc", b"pleaseletmeout"))

    def test_passwords(self) -> None:
        """A user has his own password and no other's; texts are UTF-8."""
        users = read_users(f"{ALICE}\n{BOB}\n")
        for name, password, good in (
            (b"alice", b"secret", True), (b"alice", b"secre", False), (b"alice", b"", False),
            (b"bob", "pässword".encode(), True), (b"bob", b"secret", False), (b"Alice", b"secret", False),
            (b"eve", b"secret", False), (b"", b"", False), (b"\xff", b"\xff", False),
        ):  # fmt: skip
            for _ in range(2):
                self.assertIs(users.admits(name, password), good, name)

    def test_cost(self) -> None:
        """The same good password is hashed slowly once; a wrong one, and an unknown name, every time."""
        users = read_users(ALICE)
        with mock.patch("hashlib.pbkdf2_hmac", wraps=hashlib.pbkdf2_hmac) as slow:
            for name, password, hashed in (
                (b"alice", b"secret", 1), (b"alice", b"secret", 1), (b"alice", b"wrong", 2),
                (b"alice", b"wrong", 3),
                (b"alice", b"secret", 3), (b"eve", b"secret", 4), (b"eve", b"secret", 5),
            ):  # fmt: skip
                users.admits(name, password)
                self.assertEqual(slow.call_count, hashed)

    def test_secret(self) -> None:
        """Printing shows neither names nor hashes."""
        self.assertEqual(repr(read_users(ALICE)), "<Users: 1>")
        self.assertEqual(repr(NACL), "<Secret: cost (80000,)>")


class ReadTests(SynchronousTestCase):
    """The file."""

    def test_file(self) -> None:
        """Comments, blank lines and blanks around lines are skipped."""
        users = read_users(f"# people\n\n  {ALICE}  \r\n\t# {BOB}\n")
        self.assertEqual(repr(users), "<Users: 1>")
        self.assertTrue(users.admits(b"alice", b"secret"))

    def test_errors(self) -> None:
        """A line that is wrong is named, what is behind its colon is not shown."""
        salt, key = ALICE.split("$")[2:]
        for line, part in (
            ("alice", "NAME:HASH"),
            (":" + ALICE.partition(":")[2], "NAME:HASH"),
            ("a\x07:x", "NAME:HASH"),
            ("alice:secret", "expected a hash"),
            ("alice:", "expected a hash"),
            (f"alice:md5$1000${salt}${key}", "expected a hash"),
            (f"alice:pbkdf2-sha256${salt}${key}", "expected a hash"),
            (f"alice:pbkdf2-sha256$1$1$1000${salt}${key}", "expected a hash"),
            (f"alice:scrypt$16${salt}${key}", "expected a hash"),
            (f"alice:pbkdf2-sha256$many${salt}${key}", "whole numbers"),
            (f"alice:pbkdf2-sha256$²${salt}${key}", "whole numbers"),
            (f"alice:pbkdf2-sha256$${salt}${key}", "whole numbers"),
            (f"alice:pbkdf2-sha256$999${salt}${key}", "1000 to"),
            (f"alice:pbkdf2-sha256$2000001${salt}${key}", "1000 to"),
            (f"alice:scrypt$15$8$1${salt}${key}", "power of 2"),
            (f"alice:scrypt$1$8$1${salt}${key}", "power of 2"),
            (f"alice:scrypt$16$0$1${salt}${key}", "power of 2"),
            (f"alice:scrypt$16$8$17${salt}${key}", "power of 2"),
            (f"alice:scrypt$16$8$0${salt}${key}", "power of 2"),
            (f"alice:scrypt$65536$8$1${salt}${key}", "power of 2"),
            (f"alice:pbkdf2-sha256$1000$AAAA${key}", "salt"),
            (f"alice:pbkdf2-sha256$1000${salt}$AAAA", "key"),
            (f"alice:pbkdf2-sha256$1000${salt}$" + "A" * 88, "key"),
            (f"alice:pbkdf2-sha256$1000${salt}$%%%%", "base64"),
            (f"alice:pbkdf2-sha256$1000${salt}$AAA", "base64"),
            (f"alice:pbkdf2-sha256$1000$é${key}", "base64"),
            (BOB, "twice"),
        ):
            error = self.assertRaises(ValueError, read_users, f"# one\n{BOB}\n{line}")
            self.assertIn(part, str(error))
            self.assertTrue(str(error).startswith("line 3: "), error)
            self.assertNotIn(salt, str(error))
            self.assertTrue(str(error).isprintable())

    def test_nobody(self) -> None:
        """A file without users is refused: it would let nobody in, which nobody wants."""
        for text in ("", "\n# nobody\n"):
            self.assertIn("no user", str(self.assertRaises(ValueError, read_users, text)))

    def test_too_many(self) -> None:
        """The number of users is bounded."""
        rest = ALICE.partition(":")[2]
        text = "\n".join(f"u{number}:{rest}" for number in range(MAX_USERS + 1))
        self.assertIn(str(MAX_USERS), str(self.assertRaises(ValueError, read_users, text)))


class HashTests(SynchronousTestCase):
    """Making a line."""

    def test_line(self) -> None:
        """The same salt makes the same line, another one another; neither has the password."""
        self.assertEqual(hash_password("alice", "secret", SALT, 1000), ALICE)
        self.assertNotEqual(hash_password("alice", "secret", SALT[::-1], 1000), ALICE)
        self.assertTrue(ALICE.startswith("alice:pbkdf2-sha256$1000$"))
        self.assertNotIn("secret", ALICE)

    def test_refused(self) -> None:
        """What would not be read back is not made."""
        for name, salt in (
            ("", SALT),
            ("a:b", SALT),
            ("#a", SALT),
            (" a", SALT),
            ("a\n", SALT),
            ("a", b"short"),
        ):
            self.assertRaises(ValueError, hash_password, name, "secret", salt, 1000)
