"""Tests of the filters that read the first bytes of a connection: whatever comes, it goes on or ends."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from portfwd.filters import InetAddress, RouteClause
from portfwd.filters.builtin import http_connect, http_host, proxy_in, sni, sniff, socks5
from portfwd.filters.builtin.proxies import ProxyOptions
from portfwd.filters.builtin.users import hash_password, read_users
from portfwd.filters.options import networks
from portfwd.wire.proxy_header import Header
from portfwd.wire.proxy_v1 import build_v1
from portfwd.wire.proxy_v2 import build_v2
from tests.filters.feeding import CLIENT, LOCAL, FilterTestCase, Talk
from tests.wire.hellos import openssl
from tests.wire.test_protocols import FIRST, OTHERS

USERS = read_users(hash_password("alice", "secret", b"sixteen bytes...", 1000))
CLAUSES = [RouteClause(("*.example.com",), InetAddress("there", 1)), RouteClause(("a*",), None)]

FACTORIES: list[Any] = [
    proxy_in.PLUGIN.configure(proxy_in.ProxyInOptions(trust=networks("192.0.2.0/24")), ()),
    sni.PLUGIN.configure(sni.SNIOptions(), CLAUSES),
    sni.PLUGIN.configure(sni.SNIOptions(otherwise="pass"), CLAUSES),
    http_host.PLUGIN.configure(http_host.HTTPHostOptions(), CLAUSES),
    http_host.PLUGIN.configure(http_host.HTTPHostOptions(otherwise="pass"), CLAUSES),
    sniff.PLUGIN.configure(sniff.SniffOptions(), [RouteClause(("s*",), None)]),
    socks5.PLUGIN.configure(ProxyOptions(), ()),
    socks5.PLUGIN.configure(ProxyOptions(users=USERS), ()),
    http_connect.PLUGIN.configure(ProxyOptions(), ()),
    http_connect.PLUGIN.configure(ProxyOptions(users=USERS), ()),
]

STARTS = [
    *(data for messages in FIRST.values() for data in messages),
    *OTHERS,
    openssl("www.example.com", ("h2",)),
    build_v1(CLIENT, LOCAL),
    build_v2(Header(CLIENT, LOCAL), checksum=True),
    b"\x05\x01\x00\x05\x01\x00\x03\x01a\x00\x50",
    b"\x05\x01\x02\x01\x05alice\x06secret\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50",
    b"",
]


class FirstBytesTests(FilterTestCase):
    """Nothing that a client sends makes a filter raise."""

    @given(
        st.sampled_from(STARTS),
        st.integers(0, 80),
        st.binary(max_size=4),
        st.sampled_from([*STARTS, b"x" * 70_000]),
        st.lists(st.integers(1, 60), max_size=4),
        st.booleans(),
    )
    @settings(max_examples=60, deadline=None)
    def test_any(
        self, start: bytes, place: int, patch: bytes, behind: bytes, sizes: list[int], end: bool
    ) -> None:
        """
        Messages that are cut, patched and followed by others, in any pieces.

        Nothing is written to an upstream that was not dialled, and once the time or the connection is at its
        end every filter has decided. A filter that raises fails the test.
        """
        data = start[:place] + patch + start[place:] + behind
        pieces = []
        for size in sizes:
            pieces.append(data[:size])
            data = data[size:]
        for factory in FACTORIES:
            talk = Talk(factory)
            for piece in [*pieces, data]:
                if piece:
                    talk.say(piece)
                self.assertTrue(talk.dial is not None or not talk.upstream)
            if talk.dial is None and talk.finish is None:
                talk.end() if end else talk.wait()
            self.assertTrue(talk.dial is not None or talk.finish is not None)
