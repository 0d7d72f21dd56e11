"""OpenSSL's settings: what is offered on both sides, and options that OpenSSL does not know."""

from __future__ import annotations

import ssl
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.tls.certificates import read_pair
from portfwd.service.tls.context import CIPHERS, load_pair, new_context, trust_file
from tests.service.pems import CA, directory_of, write_pair

#: What OpenSSL 3 makes of `CIPHERS`, and the suites of TLS 1.3 that it has by itself.
OFFERED = {
    "TLSv1.3": {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"},
    "TLSv1.2": {
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    },
}


class ContextTests(SynchronousTestCase):
    """What is offered, on both sides."""

    def test_table(self) -> None:
        """These versions and ciphers, and no others."""
        for server in (True, False):
            context = new_context(server=server)
            offered: dict[str, set[str]] = {}
            for cipher in context.get_ciphers():
                offered.setdefault(cipher["protocol"], set()).add(cipher["name"])
            self.assertEqual(offered, OFFERED)
            self.assertIs(context.minimum_version, ssl.TLSVersion.TLSv1_2)
            self.assertTrue(context.options & ssl.OP_NO_RENEGOTIATION)
            self.assertTrue(context.options & ssl.OP_NO_COMPRESSION)

    def test_own_ciphers(self) -> None:
        """A list of one's own is taken; one that names none is refused."""
        context = new_context(server=True, ciphers="ECDHE+AESGCM:!AES256")
        names = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"}
        self.assertEqual(names, {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"})
        problem = self.assertRaises(ValueError, new_context, server=True, ciphers="NONE-OF-THESE")
        self.assertIn("ciphers=NONE-OF-THESE", str(problem))
        self.assertNotIn("RC4", CIPHERS)

    def test_ciphers_that_are_none(self) -> None:
        """An unknown name is an error also beside known ones, and so is a cipher that does not encrypt."""
        for ciphers, wanted in (
            ("ECDHE+AESGCM:ECDHE-RSA-TYPO", "knows no such cipher: ECDHE-RSA-TYPO"),
            ("ECDHE+AESGCM:!TYPO", "knows no such cipher: TYPO"),
            ("eNULL:@SECLEVEL=0", "does not encrypt"),
            ("ALL:aNULL:@SECLEVEL=0", "does not"),
            ("!ALL", "none left"),
        ):
            problem = self.assertRaises(ValueError, new_context, server=True, ciphers=ciphers)
            self.assertIn(wanted, str(problem))
        for ciphers in ("HIGH:!aNULL:!eNULL", "DEFAULT@SECLEVEL=2", "ECDHE+AESGCM:-AES128:+AES256", CIPHERS):
            new_context(server=True, ciphers=ciphers)

    def test_curves(self) -> None:
        """One group that OpenSSL knows; another name is an error."""
        for curve in ("X25519", "prime256v1", "P-256", "P-384", "p-521"):
            new_context(server=True, curve=curve)
        problem = self.assertRaises(ValueError, new_context, server=True, curve="circle")
        self.assertIn("curve=circle", str(problem))

    def test_old_versions(self) -> None:
        """Older versions come with the ciphers that they need."""
        for version in ("1.0", "1.1"):
            for server in (True, False):
                context = new_context(server=server, min_version=version)
                names = {cipher["name"] for cipher in context.get_ciphers()}
                self.assertIn("ECDHE-RSA-AES128-SHA", names)
                self.assertFalse({name for name in names if "NULL" in name})

    def test_refused_by_openssl(self) -> None:
        """What OpenSSL does not take is told with its reason."""

        class Strict(ssl.SSLContext):
            """Takes nothing."""

            def load_verify_locations(self, *_: Any, **__: Any) -> None:
                raise ssl.SSLError("not this one")

            load_cert_chain = load_verify_locations  # type: ignore[assignment]

        pair = read_pair(*write_pair(directory_of(self), "a", CA.issue_cert("a.example")))
        context = Strict(ssl.PROTOCOL_TLS_CLIENT)
        problem = self.assertRaises(ValueError, trust_file, context, "ca.pem", lambda _: CA.cert_pem.bytes())
        self.assertEqual(str(problem), "ca.pem: OpenSSL refuses it: not this one")
        problem = self.assertRaises(ValueError, load_pair, context, evolve(pair, cert="a.pem"), lambda _: b"")
        self.assertEqual(str(problem), "a.pem: OpenSSL refuses it: not this one")
