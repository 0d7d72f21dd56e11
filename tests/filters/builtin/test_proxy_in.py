"""Tests of `portfwd.filters.builtin.proxy_in`: who may say whose connection it is."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings

from portfwd.filters import InetAddress, UnixAddress
from portfwd.filters.builtin.proxy_in import PLUGIN, ProxyInOptions, trusts
from portfwd.filters.clause_reading import read_options
from portfwd.filters.option_kinds import OptionFiles
from portfwd.filters.options import networks
from portfwd.wire.proxy_header import MAX_HEADER, Header
from portfwd.wire.proxy_tlvs import UNIQUE_ID
from portfwd.wire.proxy_v1 import build_v1
from portfwd.wire.proxy_v2 import build_v2
from tests.filters.feeding import CLIENT, FilterTestCase, Talk, make_connection
from tests.wire import proxy_values

REAL = InetAddress("203.0.113.9", 4000)
PLACE = InetAddress("203.0.113.80", 443)


def proxy_in(**options: Any) -> Any:
    """Make a factory that trusts the client."""
    return PLUGIN.configure(ProxyInOptions(trust=networks("192.0.2.0/24,2001:db8::/32"), **options), ())


class TrustedTests(FilterTestCase):
    """Peers that are trusted have to send a header."""

    def test_versions(self) -> None:
        """Both versions announce the client; what is behind the header goes on, in one piece or many."""
        for header in (build_v1(REAL, PLACE), build_v2(Header(REAL, PLACE), checksum=True)):
            talk = self.talk(proxy_in(), data=header + b"hello")
            assert talk.judged is not None
            self.assertEqual((talk.judged.client, talk.judged.local), (REAL, PLACE))
            self.assertEqual((talk.connection.source, talk.connection.destination), (REAL, PLACE))
            self.assertEqual((talk.target, b"".join(talk.upstream)), (None, b"hello"))

    def test_header_alone(self) -> None:
        """The dial waits for the header and for nothing else; nothing of the header goes on."""
        header = build_v1(REAL, PLACE)
        talk = Talk(proxy_in()).say(header[:-1])
        self.assertIsNone(talk.dial)
        talk.say(header[-1:])
        self.assertEqual((talk.target, talk.upstream), (None, []))

    def test_tlvs(self) -> None:
        """TLVs are left for other filters."""
        tlvs = ((UNIQUE_ID, b"abc"),)
        talk = self.talk(proxy_in(), data=build_v2(Header(REAL, PLACE, tlvs)))
        self.assertEqual(talk.connection.tags, {"proxy-tlvs": tlvs})

    def test_own_addresses(self) -> None:
        """Headers that say nothing of use leave the addresses as they are."""
        for header in (
            b"PROXY UNKNOWN\r\n",
            build_v2(Header(local=True)),
            build_v2(Header()),
            build_v2(Header(REAL, PLACE, datagram=True)),
        ):
            talk = self.talk(proxy_in(), data=header + b"hello")
            self.assertIsNone(talk.judged)
            self.assertEqual(talk.connection.source, CLIENT)
            self.assertEqual(b"".join(talk.upstream), b"hello")

    def test_no_header(self) -> None:
        """What does not begin with a header, or with a wrong one, is refused, and nothing of it goes on."""
        wrong = bytearray(build_v2(Header(REAL, PLACE), checksum=True))
        wrong[20] ^= 1
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 1.2.3.4\r\n", bytes(wrong), b"PROXY" * 30):
            talk = self.talk(proxy_in(), data=data)
            self.assertIn("PROXY", talk.reason)
            self.assertEqual((talk.dial, talk.upstream, talk.client), (None, [], b""))

    def test_too_long(self) -> None:
        """A header that is longer than what is held for it is refused when it says so."""
        header = build_v2(Header(local=True, tlvs=((0xE0, bytes(MAX_HEADER - 16 - 3)),)))
        self.assertIsNotNone(Talk(proxy_in()).say(header[:20], header[20:]).dial)
        longer = build_v2(Header(local=True, tlvs=((0xE0, bytes(MAX_HEADER - 16 - 2)),)))
        self.assertIn(str(MAX_HEADER), Talk(proxy_in()).say(longer[:16]).reason)

    def test_end(self) -> None:
        """A connection that ends before its header does is closed, with or without a part of it."""
        for data in (b"", build_v1(REAL, PLACE)[:-1]):
            talk = Talk(proxy_in()).say(*([data] if data else [])).end()
            self.assertIn("before its PROXY header", talk.reason)
            self.assertEqual((talk.dial, talk.upstream), (None, []))

    def test_time(self) -> None:
        """The whole header must come in time: three seconds, or what the rule says."""
        for options, seconds in (({}, 3.0), ({"timeout": 7.5}, 7.5)):
            talk = Talk(proxy_in(**options)).say(b"PROXY ")
            self.assertEqual(talk.wait(), seconds)
            self.assertIn("could not decide", talk.reason)
            self.assertIsNone(talk.dial)

    @given(proxy_values.pairs)
    @settings(max_examples=20, deadline=None)
    def test_any(self, pair: tuple[InetAddress, InetAddress]) -> None:
        """Whoever a header names is announced, whatever bytes follow."""
        for header in (build_v1(*pair), build_v2(Header(*pair))):
            talk = Talk(proxy_in()).say(header + header)
            assert talk.judged is not None
            self.assertEqual((talk.judged.client, talk.judged.local), pair)
            self.assertEqual(talk.upstream, [header])


class StrangerTests(FilterTestCase):
    """Peers that are not trusted are never believed."""

    def test_close(self) -> None:
        """They are refused before they say anything."""
        talk = Talk(proxy_in(), connection=make_connection(InetAddress("198.51.100.7", 1)))
        self.assertIn("not one of the peers", talk.reason)
        self.assertIsNone(talk.dial)

    def test_pass(self) -> None:
        """With ``untrusted=pass`` the filter stays out: a header in their bytes is not looked at."""
        talk = Talk(proxy_in(untrusted="pass"), connection=make_connection(InetAddress("198.51.100.7", 1)))
        self.assertTrue(talk.untouched)

    def test_who(self) -> None:
        """Addresses are compared as the IP addresses they are; unix sockets are trusted, nobody is not."""
        trust = networks("192.0.2.0/24,2001:db8::/32,fe80::/10")
        for client, network, good in (
            (InetAddress("192.0.2.255", 1), "tcp", True),
            (InetAddress("192.0.3.0", 1), "tcp", False),
            (InetAddress("::ffff:192.0.2.1", 1), "tcp", True),
            (InetAddress("2001:db8::9", 1), "tcp", True),
            (InetAddress("2001:db9::9", 1), "tcp", False),
            (InetAddress("fe80::1%eth0", 1), "tcp", True),
            (UnixAddress(""), "unix", True),
            (None, "unix", True),
            (None, "tcp", False),
        ):
            self.assertIs(trusts(trust, make_connection(client, network=network)), good, client)

    def test_announced(self) -> None:
        """Who was announced before is not who connected: only the latter is asked about."""
        connection = make_connection(InetAddress("198.51.100.7", 1), announced=CLIENT)
        self.assertFalse(trusts(networks("192.0.2.0/24"), connection))


class OptionsTests(FilterTestCase):
    """What the clause takes."""

    def read(self, **options: str) -> Any:
        """Read a clause."""
        files = OptionFiles(read=lambda path: "", absolute=lambda path: path)
        return read_options(ProxyInOptions, (), list(options.items()), files)

    def test_good(self) -> None:
        """Networks, what becomes of others, and a time."""
        options = self.read(trust="10.0.0.0/8,::1", untrusted="pass", timeout="5s")
        self.assertEqual((len(options.trust), options.untrusted, options.timeout), (2, "pass", 5.0))

    def test_bad(self) -> None:
        """Without trust there is nobody to read a header of; less than three seconds is too little."""
        self.assertIn("'trust' is missing", self.read()[0].message)
        self.assertIn("the least is 3s", self.read(trust="::1", timeout="2s")[0].message)
