"""Tests of ``portfwd hash-password``."""

from __future__ import annotations

import getpass
import io
import sys

from portfwd.cli.hash_password import MAX_PASSWORD
from portfwd.filters.builtin.users import read_users
from tests.cli.running import CommandTestCase


class Terminal(io.StringIO):
    """A standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


class HashPasswordTests(CommandTestCase):
    """The line that is printed, and where the password comes from."""

    def typed(self, *answers: str) -> None:
        """Set the inputs on the terminal."""
        left = list(answers)
        self.patch(sys, "stdin", Terminal())
        self.patch(getpass, "getpass", lambda prompt: left.pop(0))

    def piped(self, text: str) -> None:
        """Make the standard input a pipe with this text."""
        self.patch(sys, "stdin", io.StringIO(text))

    def test_typed(self) -> None:
        """Typed twice the same it becomes a line that admits the user, and no other password."""
        self.typed("open sesame", "open sesame")
        code, out, err = self.run_main("hash-password", "alice")
        self.assertEqual((code, err, out.count("\n")), (0, "", 1))
        users = read_users(out)
        self.assertTrue(users.admits(b"alice", b"open sesame"))
        self.assertFalse(users.admits(b"alice", b"open"))
        self.assertNotIn("sesame", out)

    def test_piped(self) -> None:
        """Of a pipe the first line is the password; its end, in either way of writing it, is not."""
        for text in ("open sesame\nmore\n", "open sesame\r\n", "open sesame"):
            self.piped(text)
            code, out, _ = self.run_main("hash-password", "alice")
            self.assertEqual(code, 0)
            self.assertTrue(read_users(out).admits(b"alice", b"open sesame"), text)

    def test_salted(self) -> None:
        """The same password gives another line each time."""
        lines = set()
        for _ in range(2):
            self.piped("open sesame\n")
            lines.add(self.run_main("hash-password", "alice")[1])
        self.assertEqual(len(lines), 2)

    def test_refused(self) -> None:
        """No password, two different ones, exit code 1; a name that the file cannot have: 2."""
        self.piped("\n")
        self.assertEqual(
            self.run_main("hash-password", "alice"), (1, "", "portfwd hash-password: there is no password\n")
        )
        self.typed("one", "two")
        self.assertEqual(
            self.run_main("hash-password", "alice"),
            (1, "", "portfwd hash-password: the two passwords differ\n"),
        )
        for name in ("a:b", "#a", "", "a\nb"):
            self.piped("open sesame\n")
            code, out, err = self.run_main("hash-password", name)
            self.assertEqual((code, out), (2, ""), name)
            self.assertIn("portfwd hash-password: the name ", err)

    def test_no_text(self) -> None:
        """A password, or a name, that is not UTF-8 is refused, however standard input decodes it."""
        for errors in ("strict", "surrogateescape"):
            data = io.BytesIO(b"\xff\xfe\n")
            self.patch(sys, "stdin", io.TextIOWrapper(data, encoding="utf-8", errors=errors))
            code, out, err = self.run_main("hash-password", "alice")
            self.assertEqual((code, out), (1, ""), errors)
            self.assertIn("the password is not UTF-8; ", err)
        self.piped("open sesame\n")
        code, out, err = self.run_main("hash-password", "\udcff")
        self.assertEqual((code, out), (2, ""))
        self.assertIn("is not UTF-8", err)

    def test_too_long(self) -> None:
        """Input without a line end is read up to a limit."""
        self.piped("x" * MAX_PASSWORD + "\r\n")
        self.assertEqual(self.run_main("hash-password", "alice")[0], 0)
        with open("/dev/zero") as zero:
            self.patch(sys, "stdin", zero)
            code, out, err = self.run_main("hash-password", "alice")
        self.assertEqual((code, out), (1, ""))
        self.assertIn(f"has more than {MAX_PASSWORD} characters", err)

    def test_keys_that_end_it(self) -> None:
        """Ctrl-C ends the command without a message, Ctrl-D means that there is no password."""

        def press(error: type[BaseException]) -> None:
            def ask(prompt: str) -> str:
                raise error

            self.patch(sys, "stdin", Terminal())
            self.patch(getpass, "getpass", ask)

        press(KeyboardInterrupt)
        self.assertEqual(self.run_main("hash-password", "alice"), (130, "", "\n"))
        press(EOFError)
        self.assertEqual(
            self.run_main("hash-password", "alice"), (1, "", "portfwd hash-password: there is no password\n")
        )
