"""Tests of `portfwd.wire.proxy_tlvs`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.wire import WireError
from portfwd.wire.proxy_tlvs import (
    ALPN,
    CLIENT_CERT_CONN,
    CLIENT_SSL,
    CRC32C,
    MAX_UNIQUE_ID,
    SSL_CN,
    SSL_VERSION,
    UNIQUE_ID,
    ClientTLS,
    Tlvs,
    build_client_tls,
    build_tlvs,
    read_client_tls,
    read_tlvs,
)
from tests.wire import proxy_values


class VectorTests(SynchronousTestCase):
    """Type, length, value."""

    def test_order(self) -> None:
        """TLVs keep their order, types may come twice, unknown types and empty values are kept."""
        data = b"\x01\x00\x02h2" + b"\xe0\x00\x00" + b"\x01\x00\x01x"
        self.assertEqual(read_tlvs(data), ((ALPN, b"h2"), (0xE0, b""), (ALPN, b"x")))
        self.assertEqual(read_tlvs(b""), ())

    def test_ends(self) -> None:
        """The last one ends with the last byte; a byte more or less is an error."""
        whole = build_tlvs([(ALPN, b"h2"), (UNIQUE_ID, b"abc")])
        for length in range(len(whole)):
            if length not in (0, 5):
                self.assertRaises(WireError, read_tlvs, whole[:length])
        self.assertRaises(WireError, read_tlvs, whole + b"\0")

    def test_checksum_length(self) -> None:
        """A checksum has four bytes."""
        for size in (0, 3, 5):
            self.assertRaises(WireError, read_tlvs, build_tlvs([(CRC32C, bytes(size))]))

    def test_unique_id(self) -> None:
        """A unique id has at most 128 bytes, read or written."""
        longest = (UNIQUE_ID, b"x" * MAX_UNIQUE_ID)
        self.assertEqual(read_tlvs(build_tlvs([longest])), (longest,))
        self.assertRaises(WireError, read_tlvs, b"\x05\x00\x81" + b"x" * 129)
        error = self.assertRaises(ValueError, build_tlvs, [(UNIQUE_ID, b"x" * 129)])
        self.assertIn("0x05 has at most 128", str(error))

    def test_longest_value(self) -> None:
        """A value is as long as two bytes can say, and not longer."""
        longest = (0xE0, b"x" * 0xFFFF)
        self.assertEqual(read_tlvs(build_tlvs([longest])), (longest,))
        self.assertRaises(ValueError, build_tlvs, [(0xE0, b"x" * 0x10000)])

    @given(proxy_values.tlvs)
    @settings(max_examples=50, deadline=None)
    def test_back(self, tlvs: Tlvs) -> None:
        """What is built is read as what it was built from."""
        self.assertEqual(read_tlvs(build_tlvs(tlvs)), tlvs)


class ClientTLSTests(SynchronousTestCase):
    """The SSL TLV, which has TLVs inside."""

    def test_verified(self) -> None:
        """A client with a certificate that was good."""
        value = b"\x07\x00\x00\x00\x00" + b"\x21\x00\x07TLSv1.3" + b"\x22\x00\x05alice"
        tls = read_client_tls(value)
        self.assertEqual(tls, ClientTLS(7, 0, ((SSL_VERSION, b"TLSv1.3"), (SSL_CN, b"alice"))))
        self.assertEqual((tls.verified, build_client_tls(tls)), (True, value))

    def test_not_verified(self) -> None:
        """Nothing was verified if the number is not zero, nor if there was no certificate."""
        self.assertFalse(read_client_tls(b"\x07\xff\x00\x00\x00").verified)
        self.assertFalse(read_client_tls(b"\x01\x00\x00\x00\x00").verified)
        self.assertEqual(build_client_tls(ClientTLS()), b"\x01\x00\x00\x00\x01")

    def test_wrong(self) -> None:
        """A value that is cut, in its fields or in its TLVs, is refused."""
        for value in (b"", b"\x01", b"\x01\0\0\0", b"\x01\0\0\0\0\x21", b"\x01\0\0\0\0\x21\0\x02T"):
            self.assertRaises(WireError, read_client_tls, value)

    @given(st.integers(0, 2**32 - 1), proxy_values.tlvs)
    @settings(max_examples=25, deadline=None)
    def test_back(self, verify: int, tlvs: Tlvs) -> None:
        """What is built is read as what it was built from."""
        tls = ClientTLS(CLIENT_SSL | CLIENT_CERT_CONN, verify, tlvs)
        self.assertEqual(read_client_tls(build_client_tls(tls)), tls)
