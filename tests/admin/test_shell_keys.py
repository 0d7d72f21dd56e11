"""Tests of the keys of a manhole."""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.conch.ssh.keys import Key
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.shell_keys import new_host_key, public_line, read_client_keys, read_host_key
from portfwd.admin.tight_files import LooseFile
from tests.integration.programs import temporary_directory


class KeyTestCase(SynchronousTestCase):
    """A directory for files of keys."""

    def setUp(self) -> None:
        self.directory: Path = temporary_directory(self)

    def file(self, data: bytes, mode: int = 0o600) -> str:
        path = self.directory / "keys"
        path.write_bytes(data)
        path.chmod(mode)
        return str(path)


class ClientKeyTests(KeyTestCase):
    """Who is let in."""

    def test_lines(self) -> None:
        """A key a line, comments and blank lines between them; what stands behind a key is its comment."""
        one, two = new_host_key(), new_host_key()
        text = f"# us\n\n{public_line(one)} me@here\n  {public_line(two)}\n"
        keys = read_client_keys(self.file(text.encode(), 0o644))
        self.assertEqual(list(keys), [one.public(), two.public()])

    def test_refused(self) -> None:
        """What is no key, has options, is private, or is weak is refused, and so is an empty file."""
        good = public_line(new_host_key())
        private = new_host_key().toString("OPENSSH").replace(b"\n", b"")
        weak = public_line(Key(rsa.generate_private_key(65537, 1024)))
        for text, expected in (
            (f"{good}\nnonsense\n".encode(), ":2: this is not a public key"),
            (f'command="x" {good}'.encode(), "or it has options"),
            (b"ssh-ed25519 AAAA\n", ":1: this is not a public key"),
            (b"ssh-ed25519 AAAAB3NzaC1yc2EAAA==\n", ":1: this is not a public key"),
            (private, ":1: this is"),
            (f"{weak}\n".encode(), "too weak"),
            (b"# nobody\n", "no log-in would be possible"),
        ):
            error = self.assertRaises(LooseFile, read_client_keys, self.file(text))
            self.assertIn(expected, str(error))

    def test_loose(self) -> None:
        """A file that others may write is refused before it is understood."""
        self.assertIn("go-w", str(self.assertRaises(LooseFile, read_client_keys, self.file(b"", 0o666))))


class HostKeyTests(KeyTestCase):
    """What the server shows itself by."""

    def test_made(self) -> None:
        """A missing key is created, readable only by this user, and is the same the next time."""
        path = self.directory / "host-key"
        key = read_host_key(str(path))
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(read_host_key(str(path)), key)
        self.assertTrue(public_line(key).startswith("ssh-ed25519 AAAA"))
        self.assertEqual(public_line(key).count(" "), 1)

    def test_refused(self) -> None:
        """What is no key, public, or needs a password is refused; so is what others can read."""
        key = new_host_key()
        for data, expected in (
            (b"nonsense", "is not a private key"),
            (public_line(key).encode(), "is a public key"),
            (key.toString("OPENSSH", passphrase=b"secret"), "is encrypted"),
        ):
            error = self.assertRaises(LooseFile, read_host_key, self.file(data))
            self.assertIn(expected, str(error))
        error = self.assertRaises(LooseFile, read_host_key, self.file(key.toString("OPENSSH"), 0o644))
        self.assertIn("go-rwx", str(error))

    def test_not_made(self) -> None:
        """It is not made where others could exchange it."""
        self.directory.chmod(0o777)
        path = self.directory / "host-key"
        self.assertRaises(LooseFile, read_host_key, str(path))
        self.assertFalse(path.exists())
