"""Session summaries for the tests of the log forms: one plain, and any at all."""

from __future__ import annotations

from hypothesis import strategies as st

from portfwd.values import (
    CloseReason,
    FlowSummary,
    InetAddress,
    SessionSummary,
    Side,
    TLSInfo,
    UnixAddress,
)

#: 2026-01-31 12:00:00.5 UTC.
NOON = 1769860800.5

PLAIN = SessionSummary(
    id=7,
    rule="web",
    written=("0.0.0.0", "8080", "10.0.0.5", "80"),
    client=InetAddress("192.0.2.1", 5555),
    local=InetAddress("10.0.0.1", 8080),
    upstream=InetAddress("10.0.0.5", 80),
    opened_at=NOON,
    connect_time=0.0012044,
    first_byte=0.0034111,
    duration=1.25,
    to_upstream=FlowSummary(312, 2, 2),
    to_client=FlowSummary(48000, 3, 5, 36000, 0.25, 0.125),
    reason=CloseReason.NORMAL,
    ended_first=Side.CLIENT,
    relay="splice",
)

# Any text at all, with what could do harm often enough.
nasty = st.one_of(
    st.text(st.characters(), max_size=12),
    st.text(st.sampled_from('\n\r\t \x00\x1b\x7f\x85\u2028\u202e\udcff"\\=/-%#a'), max_size=8),
)
ports = st.integers(0, 65535)
addresses = st.one_of(st.none(), st.builds(InetAddress, nasty, ports), st.builds(UnixAddress, nasty))
lengths = st.floats(0, 1e6)
flows = st.builds(
    FlowSummary,
    st.integers(0, 2**62),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.integers(0, 2**62),
    lengths,
    lengths,
)
handshakes = st.builds(TLSInfo, nasty, nasty, nasty, nasty, nasty, st.booleans())
summaries = st.builds(
    SessionSummary,
    id=st.integers(1),
    rule=nasty,
    written=st.tuples(nasty, nasty, nasty, nasty),
    client=addresses,
    local=addresses,
    upstream=addresses,
    opened_at=st.floats(0, 4e9),
    connect_time=st.none() | lengths,
    first_byte=st.none() | lengths,
    duration=lengths,
    to_upstream=flows,
    to_client=flows,
    reason=st.none() | st.sampled_from(CloseReason),
    ended_first=st.none() | st.sampled_from(Side),
    relay=nasty,
    detail=nasty,
    access_step=st.integers(0, 4),
    dropped=st.lists(st.tuples(nasty, st.integers(1, 9)), max_size=2).map(tuple),
    repeated=st.integers(0, 2),
    tls=st.none() | handshakes,
    upstream_tls=st.none() | handshakes,
)


def changed(**fields: object) -> SessionSummary:
    """The plain summary with some fields changed."""
    return PLAIN._replace(**fields)
