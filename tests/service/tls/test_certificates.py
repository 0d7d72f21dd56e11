"""Tests of certificates and keys as files have them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.tls.certificates import (
    expiry,
    names_of,
    now_utc,
    pair_files,
    read_chain,
    read_pair,
)
from tests.service.pems import CA, directory_of, write_pair

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class PairTests(SynchronousTestCase):
    """`read_pair`."""

    def setUp(self) -> None:
        """A good pair."""
        self.directory = directory_of(self)
        self.leaf = CA.issue_cert("a.example", "*.B.example", common_name="somebody")
        self.cert, self.key = write_pair(self.directory, "a", self.leaf)

    def refused(self, cert: str, key: str | None) -> str:
        """Why a pair is not good."""
        return str(self.assertRaises(ValueError, read_pair, cert, key))

    def file(self, data: bytes) -> str:
        """A file with these bytes."""
        path = self.directory / "odd.pem"
        path.write_bytes(data)
        return str(path)

    def test_good(self) -> None:
        """A pair knows its names, in small letters, and its end."""
        pair = read_pair(self.cert, self.key)
        self.assertEqual(pair.names, ("a.example", "*.b.example"))
        self.assertGreater(pair.until, NOW)

    def test_in_one_file(self) -> None:
        """Both may stand in one file."""
        cert, _ = write_pair(self.directory, "one", self.leaf, apart=False)
        self.assertEqual(read_pair(cert, None).key, cert)

    def test_no_key(self) -> None:
        """A certificate without a key says how to name one."""
        self.assertIn("holds no PEM private key; write key=FILE", self.refused(self.cert, None))
        self.assertIn("holds no PEM private key; name the file", self.refused(self.cert, self.cert))

    def test_other_key(self) -> None:
        """A key that belongs to another certificate is found out."""
        _, other = write_pair(self.directory, "b", CA.issue_cert("b.example"))
        self.assertIn("does not belong to the certificate", self.refused(self.cert, other))

    def test_broken(self) -> None:
        """What cannot be read is said to be so."""
        key = self.file(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        self.assertIn("a key that cannot be read", self.refused(self.cert, key))
        cert = self.file(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        self.assertIn("a certificate that cannot be read", self.refused(cert, self.key))
        self.assertIn("holds no PEM certificate", self.refused(self.file(b"hello"), self.key))

    def test_passphrase(self) -> None:
        """An encrypted key without a password file is refused."""
        private = load_pem_private_key(Path(self.key).read_bytes(), None)
        key = self.file(
            private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        )
        self.assertIn("has a passphrase", self.refused(self.cert, key))

    def test_missing(self) -> None:
        """The system's error goes to the caller, with the file's name."""
        problem = self.assertRaises(OSError, read_pair, self.cert + ".gone", None)
        self.assertIn("a.pem.gone", str(problem))

    def test_common_name(self) -> None:
        """A certificate without alternative names is for its common name."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Old.Example.")])
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), 1)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=1))
            .sign(key, SHA256())
        )
        self.assertEqual(names_of(made), ("old.example",))
        path = self.file(made.public_bytes(Encoding.PEM))
        self.assertEqual(len(read_chain(path)), 1)


class DirectoryTests(SynchronousTestCase):
    """`pair_files`."""

    def setUp(self) -> None:
        """A directory."""
        self.directory = directory_of(self)

    def test_order(self) -> None:
        """All ``*.pem``, the default first; a key beside belongs to it."""
        for name, apart in (("b", True), ("a", False), ("default", False)):
            write_pair(self.directory, name, CA.issue_cert(f"{name}.example"), apart=apart)
        (self.directory / "README").write_text("no certificate")
        found = [
            (Path(cert).name, key and Path(key).name) for cert, key in pair_files(str(self.directory), None)
        ]
        self.assertEqual(found, [("default.pem", None), ("a.pem", None), ("b.pem", "b.key")])

    def test_empty(self) -> None:
        """One without certificates is refused."""
        problem = self.assertRaises(ValueError, list, pair_files(str(self.directory), None))
        self.assertIn("no *.pem in this directory", str(problem))

    def test_one_key_for_all(self) -> None:
        """A key beside a directory belongs to none of its certificates."""
        problem = self.assertRaises(ValueError, list, pair_files(str(self.directory), "a.key"))
        self.assertIn("leave key= out", str(problem))

    def test_file(self) -> None:
        """A file is itself."""
        self.assertEqual(list(pair_files("a.pem", "a.key")), [("a.pem", "a.key")])


class ExpiryTests(SynchronousTestCase):
    """`expiry`."""

    def test_calendar(self) -> None:
        """A certificate is warned about two weeks before its end, and after it."""
        for days, wanted in ((-1, "expired on 2025-12-31"), (13, "expires on 2026-01-14"), (15, "")):
            self.assertIn(wanted, expiry("a.pem", NOW + timedelta(days=days), NOW))
        self.assertEqual(expiry("a.pem", NOW + timedelta(days=15), NOW), "")
        self.assertIsNotNone(now_utc().tzinfo)
