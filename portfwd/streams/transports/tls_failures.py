# -*- test-case-name: tests.streams.transports.test_tls_failures -*-
"""
Texts of TLS failures, with the side and the remedy.

Texts of OpenSSL are kept if there are no better ones. Bytes of the peer are not quoted, except names in its
certificate, which are escaped.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet import error
from twisted.python.failure import Failure

from portfwd.values import printable

#: Longest quoted text of OpenSSL, because a certificate can have thousands of names.
MAX_QUOTED: Final = 300

#: Sentences for OpenSSL's reasons. Those named ALERT are from the peer (RFC 8446 section 6.2).
REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "HTTP_REQUEST": "the peer speaks HTTP, not TLS",
        "WRONG_VERSION_NUMBER": "the peer does not speak TLS, or a version that is not known",
        "UNKNOWN_PROTOCOL": "the peer does not speak TLS, or a version that is not known",
        "RECORD_LAYER_FAILURE": "the peer does not speak TLS, or sent a broken record",
        "UNSUPPORTED_PROTOCOL": "the peer offers only versions of TLS that min-version= excludes",
        "VERSION_TOO_LOW": "the peer offers only versions of TLS that min-version= excludes",
        "NO_PROTOCOLS_AVAILABLE": "no version of TLS is left to offer",
        "NO_SHARED_CIPHER": "no cipher that both sides have",
        "NO_SUITABLE_SIGNATURE_ALGORITHM": "no signature algorithm that both sides have",
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client showed no certificate, and verify-client= wants one",
        "UNEXPECTED_EOF_WHILE_READING": "the connection ended in the middle of a record",
        "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "a record was changed on its way, or is broken",
        "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust the authority of our certificate",
        "SSLV3_ALERT_BAD_CERTIFICATE": "the peer finds our certificate bad",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the peer does not take our certificate's kind",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer finds our certificate expired",
        "SSLV3_ALERT_CERTIFICATE_REVOKED": "the peer finds our certificate revoked",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer does not accept our certificate",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer wants a certificate of ours: set client-cert=",
        "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer refused: no cipher in common, or it wants a certificate",
        "TLSV1_ALERT_PROTOCOL_VERSION": "the peer takes none of our versions of TLS (1.2 and 1.3)",
        "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "the peer speaks none of the protocols of alpn=",
        "TLSV1_UNRECOGNIZED_NAME": "the peer does not know the server name that was asked for",
        "TLSV1_ALERT_INTERNAL_ERROR": "the peer had an internal error",
        "TLSV1_ALERT_ACCESS_DENIED": "the peer refused our certificate",
        "TLSV1_ALERT_DECRYPT_ERROR": "the peer could not verify our handshake",
    }
)

#: The meaning of a fatal alert with TLS 1.2 after the handshake: the peer may end the connection because its
#: renegotiation is refused (RFC 5246 section 7.2.2).
#: With TLS 1.3, a server may send it after the handshake because of our certificate.
RENEGOTIATION: Final = "the peer gave up: it wanted to renegotiate, which is refused"

#: OpenSSL's codes of certificate errors (``x509_vfy.h``).
CERTIFICATE: Final[Mapping[int, str]] = MappingProxyType(
    {
        3: "cannot be checked: there is no revocation list (crl=) of its authority",
        9: "is not valid yet",
        10: "has expired",
        12: "cannot be checked: the revocation list (crl=) has expired",
        18: "is signed by itself, and by no authority that is trusted",
        19: "comes with an authority that is not trusted",
        20: "is not signed by an authority that is trusted",
        21: "is not signed by an authority that is trusted",
        23: "is revoked",
        26: "is not meant for this use",
    }
)
#: The codes for a wrong name or address.
OTHER_NAME: Final = frozenset({62, 63, 64})


class TLSBroken(error.ConnectionLost):
    """TLS did not end in order. The text says why."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "TLS failed"


class NotAdmitted(Exception):
    """A peer with a successful handshake is not admitted."""


def explain_open(problem: ssl.SSLError, version: str) -> str:
    """
    As `explain`, for a problem after the handshake.

    :param version: see `TLSInfo`.
    """
    refused = getattr(problem, "reason", None) == "SSLV3_ALERT_HANDSHAKE_FAILURE"
    return RENEGOTIATION if refused and version == "TLSv1.2" else explain(problem)


def explain(problem: ssl.SSLError) -> str:
    """The text of `problem` in one line."""
    code = getattr(problem, "verify_code", None)  # only errors of certificates have one
    if code is not None:
        words = _quoted(getattr(problem, "verify_message", ""))
        if code in OTHER_NAME:
            return f"the certificate is for another name: {words}"
        known = CERTIFICATE.get(code)
        return f"the certificate {known}" if known else f"the certificate: {words}"
    reason = getattr(problem, "reason", None) or ""  # an error made by Python has no reason
    known = REASONS.get(reason)
    if known is not None:
        return known
    words = reason.lower().replace("_", " ") or str(problem.args[-1] if problem.args else problem)
    return _quoted(words)


def _quoted(text: str) -> str:
    text = printable(text)
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "…"


def explain_loss(reason: Failure) -> str:
    """The text of a loss in one line."""
    problem: Any = reason.value
    if reason.check(VerificationError):
        return "the certificate is for another name: " + ", ".join(str(one) for one in problem.errors)
    if reason.check(TLSError) and problem.args and type(problem.args[0]) is list:
        # pyOpenSSL gives OpenSSL's error queue with (library, function, reason) entries.
        return "TLS: " + ", ".join(str(entry[-1]) for entry in problem.args[0])
    return reason.getErrorMessage() or type(problem).__name__
