"""Tests of `portfwd.filters.builtin.proxy_out`: what the upstream is told."""

from __future__ import annotations

from typing import Any

from portfwd.filters import InetAddress, RouteClause, TLSInfo, UnixAddress
from portfwd.filters.builtin.proxy_in import PLUGIN as PROXY_IN
from portfwd.filters.builtin.proxy_in import ProxyInOptions
from portfwd.filters.builtin.proxy_out import PLUGIN, ProxyOutOptions
from portfwd.filters.builtin.sni import PLUGIN as SNI
from portfwd.filters.builtin.sni import SNIOptions
from portfwd.filters.chain.chain import make_chain
from portfwd.filters.chain.effects import Write
from portfwd.filters.options import networks
from portfwd.values import TO_UPSTREAM
from portfwd.wire.proxy_header import Header
from portfwd.wire.proxy_tlvs import (
    ALPN,
    AUTHORITY,
    SSL,
    SSL_CN,
    SSL_VERSION,
    UNIQUE_ID,
    ClientTLS,
    read_client_tls,
)
from portfwd.wire.proxy_v1 import build_v1
from portfwd.wire.proxy_v2 import build_v2, read_v2
from portfwd.wire.reading import Read
from tests.filters.feeding import CLIENT, LOCAL, FilterTestCase, Talk, make_connection
from tests.wire.hellos import openssl

REAL = InetAddress("203.0.113.9", 4000)
PLACE = InetAddress("203.0.113.80", 443)


def proxy_out(version: str = "2", *tlv: str) -> Any:
    """Make a factory."""
    return PLUGIN.configure(ProxyOutOptions(version=version, tlv=tlv), ())


def proxy_in() -> Any:
    """Make the factory of the other side, which trusts the client."""
    return PROXY_IN.configure(ProxyInOptions(trust=networks("192.0.2.0/24")), ())


class HeaderTestCase(FilterTestCase):
    """Reads the header that the upstream gets."""

    def header(self, *factories: Any, say: bytes = b"", **values: Any) -> Header:
        """Return what the first write says, which is a header of version 2 and nothing else."""
        talk = Talk(*factories, connection=make_connection(**values))
        if say:
            talk.say(say)
        answer = read_v2(talk.upstream[0])
        assert isinstance(answer, Read)
        self.assertEqual(answer.used, len(talk.upstream[0]))
        return answer.value


class HeaderTests(HeaderTestCase):
    """The header."""

    def test_versions(self) -> None:
        """Either version says who the client is, and where it connected to."""
        self.assertEqual(Talk(proxy_out("1")).upstream, [build_v1(CLIENT, LOCAL)])
        self.assertEqual(Talk(proxy_out("2")).upstream, [build_v2(Header(CLIENT, LOCAL))])

    def test_first(self) -> None:
        """It is one write of its own before the client's bytes, which pass untouched from then on."""
        talk = Talk(proxy_out()).say(b"hello", b"more")
        self.assertEqual(talk.upstream, [build_v2(Header(CLIENT, LOCAL)), b"hello", b"more"])

    def test_before_tls(self) -> None:
        """With a tls: target it is said before the handshake, the same each time, and not again."""
        for inside, introduced, said in (
            (False, True, []),
            (False, False, [build_v2(Header(CLIENT, LOCAL))]),
            (True, True, [build_v2(Header(CLIENT, LOCAL))]),
        ):
            factory = PLUGIN.configure(ProxyOutOptions(inside=inside), ())
            chain = make_chain([("proxy-out", factory)], make_connection())
            assert chain is not None
            chain.open()
            wanted = b"" if inside else build_v2(Header(CLIENT, LOCAL))
            self.assertEqual([chain.introduction(), chain.introduction()], [wanted] * 2)
            effects = chain.connected(None, introduced)
            self.assertEqual([one.data for one in effects if isinstance(one, Write)], said)
            effects = chain.received(TO_UPSTREAM, b"hello")
            self.assertEqual([one.data for one in effects if isinstance(one, Write)], [b"hello"])

    def test_first_behind_routes(self) -> None:
        """So it is where a filter before it holds the client's bytes until the dial."""
        hello = openssl()
        sni = SNI.configure(SNIOptions(), [RouteClause(("*",), "there")])
        talk = self.talk(sni, proxy_out("1"), data=hello)
        self.assertEqual(talk.target, "there")
        self.assertEqual(b"".join(talk.upstream), build_v1(CLIENT, LOCAL) + hello)
        self.assertEqual(talk.upstream[0], build_v1(CLIENT, LOCAL))

    def test_before_routes(self) -> None:
        """Listed before a filter that routes, it refuses: its header would come too late."""
        sni = SNI.configure(SNIOptions(), ())
        talk = Talk(proxy_out(), sni).say(openssl())
        self.assertIn("behind the filters that route", talk.reason)
        self.assertEqual(talk.upstream, [])

    def test_announced(self) -> None:
        """Who was announced is passed on, and so is the unique id that came with it."""
        header = build_v2(Header(REAL, PLACE, ((UNIQUE_ID, b"theirs"), (0xE0, b"own"))))
        talk = self.talk(proxy_in(), proxy_out("2", "unique-id"), data=header + b"hello")
        expected = build_v2(Header(REAL, PLACE, ((UNIQUE_ID, b"theirs"),)))
        self.assertEqual(b"".join(talk.upstream), expected + b"hello")
        self.assertEqual(talk.upstream[0], expected)

    def test_unknown(self) -> None:
        """For a client of a unix socket the header says as much as there is to say."""
        unix = {"client": None, "local": UnixAddress("/run/x"), "network": "unix"}
        talk = Talk(proxy_out("1"), connection=make_connection(**unix))
        self.assertEqual(talk.upstream, [b"PROXY UNKNOWN\r\n"])
        self.assertEqual(self.header(proxy_out(), **unix), Header(local=True))
        unix["client"] = UnixAddress("")
        self.assertEqual(self.header(proxy_out("2", "unique-id", "crc32c"), **unix), Header(local=True))

    def test_checksum(self) -> None:
        """``crc32c`` adds a checksum."""
        expected = build_v2(Header(CLIENT, LOCAL), checksum=True)
        self.assertEqual(Talk(proxy_out("2", "crc32c")).upstream, [expected])


class TLVTests(HeaderTestCase):
    """What version 2 may say besides."""

    def tlvs(self, *names: str, **values: Any) -> dict[int, bytes]:
        """Return the TLVs of the header."""
        return dict(self.header(proxy_out("2", *names), **values).tlvs)

    def test_tls(self) -> None:
        """Of TLS that ended here: name, protocol, version, and who the client proved to be."""
        tls = TLSInfo("a.example", "h2", "alice", "TLSv1.3")
        tlvs = self.tlvs("authority", "alpn", "ssl", tls=tls)
        self.assertEqual((tlvs[AUTHORITY], tlvs[ALPN]), (b"a.example", b"h2"))
        expected = ClientTLS(7, 0, ((SSL_VERSION, b"TLSv1.3"), (SSL_CN, b"alice")))
        self.assertEqual(read_client_tls(tlvs[SSL]), expected)
        self.assertEqual(read_client_tls(self.tlvs("ssl", tls=TLSInfo())[SSL]), ClientTLS(1, 1, ()))

    def test_passed_through(self) -> None:
        """Of TLS that passes, `sni` knows the name."""
        sni = SNI.configure(SNIOptions(), ())
        header = self.header(sni, proxy_out("2", "authority", "alpn", "ssl"), say=openssl("b.example"))
        self.assertEqual(header.tlvs, ((AUTHORITY, b"b.example"),))

    def test_nothing_to_say(self) -> None:
        """TLVs that there is nothing to say of are left out."""
        names = ("authority", "alpn", "ssl", "crc32c")
        self.assertEqual(self.tlvs(*names), {})
        self.assertEqual(self.tlvs(*names[:2], tls=TLSInfo()), {})

    def test_unique_id(self) -> None:
        """Ours has the session's number first, and is cut where there is no more room."""
        self.assertEqual(self.tlvs("unique-id"), {UNIQUE_ID: b"7/192.0.2.1:5000/web"})
        announced = {"proxy-tlvs": ((ALPN, b"x"), (UNIQUE_ID, b""))}
        self.assertEqual(self.tlvs("unique-id", tags=announced), {UNIQUE_ID: b"7/192.0.2.1:5000/web"})
        self.assertEqual(self.tlvs("unique-id", tags={"proxy-tlvs": 1})[UNIQUE_ID][:2], b"7/")
        connection = make_connection()
        connection.rule = "x" * 200
        answer = read_v2(Talk(proxy_out("2", "unique-id"), connection=connection).upstream[0])
        assert isinstance(answer, Read)
        self.assertEqual(len(dict(answer.value.tlvs)[UNIQUE_ID]), 128)


class OptionsTests(FilterTestCase):
    """What the clause takes."""

    def test_bad(self) -> None:
        """Unknown TLVs, and TLVs of version 1, are refused with what there is."""
        error = self.assertRaises(ValueError, ProxyOutOptions, tlv=("autority",))
        self.assertIn("authority", str(error))
        error = self.assertRaises(ValueError, ProxyOutOptions, version="1", tlv=("alpn",))
        self.assertIn("version=2", str(error))
