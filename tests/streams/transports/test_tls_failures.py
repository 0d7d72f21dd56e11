"""Tests of the words for what went wrong."""

from __future__ import annotations

import ssl

from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from portfwd.streams.transports.tls_failures import (
    CERTIFICATE,
    MAX_QUOTED,
    REASONS,
    RENEGOTIATION,
    TLSBroken,
    explain,
    explain_open,
)


def error(reason: str | None) -> ssl.SSLError:
    """An error with OpenSSL's reason."""
    made = ssl.SSLError(1, f"[SSL: {reason}]")
    made.reason = reason  # type: ignore[assignment]
    return made


def verification(code: int, message: str) -> ssl.SSLCertVerificationError:
    """A certificate that is not good."""
    made = ssl.SSLCertVerificationError(1, "certificate verify failed")
    made.verify_code, made.verify_message = code, message
    return made


class ExplainTests(SynchronousTestCase):
    """`explain`."""

    def test_known(self) -> None:
        """Each reason of the table has its sentence."""
        for reason, sentence in REASONS.items():
            self.assertEqual(explain(error(reason)), sentence)

    def test_renegotiation(self) -> None:
        """A refusal behind the handshake is about renegotiation in TLS 1.2, and in TLS 1.3 it is not."""
        refusal = error("SSLV3_ALERT_HANDSHAKE_FAILURE")
        self.assertEqual(explain_open(refusal, "TLSv1.2"), RENEGOTIATION)
        self.assertEqual(explain_open(refusal, "TLSv1.3"), explain(refusal))
        self.assertNotIn("renegotiate", explain(refusal))
        other = error("DECRYPTION_FAILED_OR_BAD_RECORD_MAC")
        self.assertEqual(explain_open(other, "TLSv1.2"), explain(other))

    def test_unknown(self) -> None:
        """OpenSSL's own words do where there are no better ones."""
        self.assertEqual(explain(error("DATA_LENGTH_TOO_LONG")), "data length too long")
        self.assertEqual(explain(error(None)), "[SSL: None]")
        self.assertEqual(explain(ssl.SSLError("made by Python")), "made by Python")

    def test_certificates(self) -> None:
        """A certificate that is not good is said to be so, with the name where that is it."""
        for code, words in CERTIFICATE.items():
            self.assertEqual(explain(verification(code, "x")), f"the certificate {words}")
        self.assertEqual(
            explain(verification(62, "no match")), "the certificate is for another name: no match"
        )
        self.assertEqual(explain(verification(99, "odd")), "the certificate: odd")

    def test_safe(self) -> None:
        """What is quoted cannot break a line or fill a log."""
        said = explain(verification(62, "a\nb" + "c" * 5000))
        self.assertNotIn("\n", said)
        self.assertLess(len(said), MAX_QUOTED + 60)


class TLSBrokenTests(SynchronousTestCase):
    """`TLSBroken`."""

    def test_text(self) -> None:
        """It is a loss of the connection, and its text is its own."""
        self.assertIsInstance(TLSBroken("why"), ConnectionLost)
        self.assertEqual((str(TLSBroken("why")), str(TLSBroken())), ("why", "TLS failed"))
