"""Hypothesis strategies for PROXY headers."""

from __future__ import annotations

import ipaddress

from hypothesis import strategies as st

from portfwd.values import InetAddress, UnixAddress, unmapped
from portfwd.wire.proxy_header import Header
from portfwd.wire.proxy_tlvs import CRC32C, NOOP, UNIQUE_ID

ports = st.integers(0, 0xFFFF)
ipv4 = st.builds(InetAddress, st.ip_addresses(v=4).map(str), ports)
#: Mapped addresses are read as the IPv4 ones they are, so that they do not come back as written.
ipv6 = st.builds(
    InetAddress,
    st.one_of(
        st.ip_addresses(v=6),
        st.sampled_from(["::", "::1", "2001:db8::1", "::1.2.3.4"]).map(ipaddress.ip_address),
    )
    .map(str)
    .filter(lambda host: unmapped(host) == host),
    ports,
)
unix = st.builds(
    UnixAddress,
    st.one_of(
        st.just(""),
        st.from_regex(r"[/@][^\0]{1,40}", fullmatch=True).filter(lambda path: len(path.encode()) < 108),
    ),
)
pairs = st.one_of(
    st.tuples(ipv4, ipv4),
    st.tuples(ipv6, ipv6),
)
tlvs = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 255), st.sampled_from([UNIQUE_ID, 0x01, 0x02, 0x20])),
        st.binary(max_size=40),
    ).filter(lambda tlv: tlv[0] not in (CRC32C, NOOP)),
    max_size=4,
).map(tuple)
headers = st.one_of(
    st.builds(
        lambda pair, tlvs, datagram: Header(*pair, tlvs, datagram),
        st.one_of(pairs, st.tuples(unix, unix)),
        tlvs,
        st.booleans(),
    ),
    st.just(Header()),
    st.just(Header(local=True)),
)
