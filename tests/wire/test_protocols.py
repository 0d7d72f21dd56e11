"""Tests of `portfwd.wire.protocols`, with what real clients send first."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.wire import Need
from portfwd.wire.protocols import NAMES, recognise
from tests.wire.hellos import openssl

#: By protocol: complete first messages of clients.
FIRST: dict[str, list[bytes]] = {
    "ssh": [b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10\r\n", b"SSH-1.99-x\n"],
    "tls": [openssl(), openssl(None), b"\x16\x03\x00\x00\x05\x01"],
    "http": [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.0\r\n\r\n",
        b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
        b"PROPFIND /dav HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    "socks4": [
        b"\x04\x01\x00\x50\xc0\x00\x02\x01user\x00",
        b"\x04\x02\x00\x50\x00\x00\x00\x01\x00a.example\x00",
    ],
    "socks5": [b"\x05\x01\x00", b"\x05\x03\x00\x01\x02", b"\x05\xff" + bytes(255)],
    "rdp": [
        # mstsc: with a cookie and the negotiation request of MS-RDPBCGR section 2.2.1.1
        b"\x03\x00\x00\x2f\x2a\xe0\x00\x00\x00\x00\x00"
        b"Cookie: mstshash=Administr\r\n\x01\x00\x08\x00\x03\x00\x00\x00",
        b"\x03\x00\x00\x0b\x06\xe0\x00\x00\x00\x00\x00",
    ],
    "postgresql": [
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"\x00\x00\x00\x08\x04\xd2\x16\x30",
        b"\x00\x00\x00\x10\x04\xd2\x16\x2e" + bytes(8),
        b"\x00\x00\x00\x21\x00\x03\x00\x00user\x00alice\x00database\x00db\x00\x00",
        # psql 15
        b"\x00\x00\x006\x00\x03\x00\x00user\x00alice\x00database\x00db\x00application_name\x00psql\x00\x00",
        b"\x00\x00\x00\x13\x00\x03\x00\x02user\x00alice\x00\x00",
    ],
    "mqtt": [
        b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd",
        b"\x10\x8f\x01\x00\x04MQTT\x05",
        b"\x10\xff\xff\xff\x7f\x00\x04MQTT\x05",
        b"\x10\x12\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x04abcd",
    ],
}  # fmt: skip

#: What is none of them, though some begin alike.
OTHERS = [
    b"EHLO mail.example\r\n", b"NICK /me\r\n", b"GET key\r\n", b"get /\r\n", b"SSX", b"SSH_", b"\x15\x03\x01",
    b"\x16\x02\x01\x00\x05\x01", b"\x16\x03\x05\x00\x05\x01", b"\x16\x03\x01\x00\x05\x02",
    b"\x04\x03", b"\x05\x00",
    b"\x03\x01", b"\x03\x00\x00\x0b\x07\xe0\x00\x00", b"\x03\x00\x00\x0b\x06\xd0\x00\x00",
    b"\x03\x00\x00\x0b\x06\xe0\x00\x01", b"\x03\x00\x00\x0a\x05\xe0\x00\x00",
    b"\x00\x01", b"\x00\x00\x00\x09\x04\xd2\x16\x2f", b"\x00\x00\x00\x0f\x04\xd2\x16\x2e",
    b"\x00\x00\x00\x08\x00\x03\x00\x00", b"\x00\x00\x27\x11\x00\x03\x00\x00",
    b"\x00\x00\x00\x21\x00\x02\x00\x00",
    b"\x10\x10\x00\x05", b"\x10\x10\x00\x04MQTS", b"\x10\xff\xff\xff\xff", b"\x10\x10\x00\x06MQTT",
    b"\x20", b"*1\r\n",
    b"\r\n\r\n\x00\r\nQUIT\n", b"PROXY TCP4",
]  # fmt: skip


class RecogniseTests(SynchronousTestCase):
    """First bytes, complete and in parts."""

    def test_known(self) -> None:
        """Every first message is recognised, and is still with more behind it."""
        self.assertEqual(set(FIRST), set(NAMES))
        for name, messages in FIRST.items():
            for data in messages:
                self.assertEqual(recognise(data), name, data)
                self.assertEqual(recognise(data + b"\r\n\0more"), name, data)

    def test_parts(self) -> None:
        """A part of a first message is waited for or recognised, never taken for another or for nothing."""
        for name, messages in FIRST.items():
            for data in messages:
                recognised = False
                for length in range(len(data)):
                    answer = recognise(data[:length])
                    if isinstance(answer, Need):
                        self.assertFalse(recognised, data[:length])
                        self.assertTrue(length < answer.total <= len(data), (data[:length], answer))
                    else:
                        self.assertEqual(answer, name, data[:length])
                        recognised = True

    def test_others(self) -> None:
        """What is none of the known ones is None, as soon as that is sure."""
        for data in OTHERS:
            self.assertIsNone(recognise(data), data)

    def test_one(self) -> None:
        """Asked for one protocol only, others are None at their first byte."""
        for name in NAMES:
            self.assertEqual(recognise(FIRST[name][0], (name,)), name)
            self.assertIsInstance(recognise(b"", (name,)), Need)
            self.assertIsNone(recognise(b"\xff", (name,)))
        self.assertIsNone(recognise(b"SSH-2.0", ()))

    @given(
        st.one_of(
            st.binary(max_size=12),
            st.builds(
                lambda data, length, tail: data[:length] + tail,
                st.sampled_from([*OTHERS, *(data for messages in FIRST.values() for data in messages)]),
                st.integers(0, 12),
                st.binary(max_size=8),
            ),
        )
    )
    @settings(max_examples=300, deadline=None)
    def test_more_bytes(self, data: bytes) -> None:
        """An answer is final: bytes behind it do not change it, and what is needed is always more."""
        final: str | Need | None = Need(0)
        for length in range(len(data) + 1):
            answer = recognise(data[:length])
            if not isinstance(final, Need):
                self.assertEqual(answer, final)
            elif isinstance(answer, Need):
                self.assertGreater(answer.total, length)
            else:
                # It was asked again only when there were enough bytes, so nothing was known before that.
                final = answer
