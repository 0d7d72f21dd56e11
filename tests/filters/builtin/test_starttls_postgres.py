"""Tests of `portfwd.filters.builtin.starttls_postgres`, on plain bytes; integration tests have real TLS."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import TO_CLIENT, TO_UPSTREAM, RouteClause, Side
from portfwd.filters.builtin import sni
from portfwd.filters.builtin.starttls_options import StartTLSOptions
from portfwd.filters.builtin.starttls_postgres import CANCEL, GSS_REQUEST, PLUGIN, SSL_REQUEST, refusal
from portfwd.filters.builtin.starttls_upstream import LIMIT, MAX_WAITING
from portfwd.filters.clause_reading import read_options
from portfwd.filters.options import OptionError, OptionFiles
from portfwd.testing import Pipe, check_filter
from tests.wire.hellos import openssl

UP, DOWN = TO_UPSTREAM, TO_CLIENT
STARTUP = b"\0\0\0\x0d\0\x03\0\0user\0"


def factory(mode: str, **options: Any) -> Any:
    """A factory of the filter."""
    if mode == "terminate":
        options.setdefault("cert", "/etc/db.pem")
    return PLUGIN.configure(StartTLSOptions(mode=mode, **options), ())


def cuts(data: bytes) -> list[Sequence[bytes]]:
    """`data` in two pieces, cut everywhere, and byte by byte."""
    pieces: list[Sequence[bytes]] = [(data[:end], data[end:]) for end in range(1, len(data))]
    return [(data,), *pieces, [data[at : at + 1] for at in range(len(data))]]


class TerminateTests(SynchronousTestCase):
    """``terminate``."""

    def test_every_split(self) -> None:
        """However it is cut, the request is answered, and what is behind it is TLS's and then passes."""
        for requests, answers in ((SSL_REQUEST, b"S"), (GSS_REQUEST + SSL_REQUEST, b"NS"), (b"", b"")):
            for pieces in cuts(requests + (STARTUP if requests else b"\x16hello")):
                pipe = Pipe(factory("terminate"))
                pipe.send(UP, *pieces)
                self.assertEqual((pipe.secured, pipe.to_client), ([Side.CLIENT], answers), pieces)
                self.assertEqual(pipe.to_upstream, STARTUP if requests else b"\x16hello")

    def test_plain(self) -> None:
        """A client without TLS goes on, or is told that it may not."""
        pipe = Pipe(factory("terminate"))
        pipe.send(UP, STARTUP)
        self.assertEqual((pipe.to_upstream, pipe.secured), (STARTUP, []))
        pipe = Pipe(factory("terminate", require=True))
        pipe.send(UP, STARTUP)
        self.assertEqual((pipe.to_upstream, pipe.to_client), (b"", refusal("this server wants TLS")))

    def test_cancel(self) -> None:
        """A plain request to cancel a query passes where TLS is required, but not where nothing is chosen."""
        for key in (bytes(8), bytes(36)):
            request = pack("!I", 8 + len(key)) + CANCEL + key
            for pieces in cuts(request):
                pipe = Pipe(factory("terminate", require=True))
                pipe.send(UP, *pieces)
                self.assertEqual((pipe.to_upstream, pipe.to_client), (request, b""), pieces)
            pipe = Pipe(factory("answer"))
            pipe.send(UP, request)
            self.assertEqual((pipe.to_upstream, pipe.to_client), (b"", refusal("this server wants TLS")))

    def test_options(self) -> None:
        """The options of TLS are those of a listener; a certificate is needed."""
        options = StartTLSOptions(mode="terminate", cert="/a", key="/b", client_ca="/c")
        self.assertEqual(options.starts_tls, {Side.CLIENT: {"cert": "/a", "key": "/b", "client-ca": "/c"}})
        self.assertRaises(OptionError, StartTLSOptions, mode="terminate")
        for wrong in ({"ca": "/a"}, {"verify": False}, {"server_name": "x"}):
            self.assertRaises(OptionError, StartTLSOptions, mode="terminate", cert="/a", **wrong)
        files = OptionFiles(str, lambda path: f"/here/{path}")
        read = read_options(StartTLSOptions, ["terminate"], [("cert", "db.pem")], files)
        self.assertEqual(read, StartTLSOptions(mode="terminate", cert="/here/db.pem"))


class OriginateTests(SynchronousTestCase):
    """``originate``."""

    def test_every_split(self) -> None:
        """The upstream gets the request first, and what the client said behind the handshake."""
        for requests, answers in ((b"", b""), (SSL_REQUEST, b"N"), (GSS_REQUEST + SSL_REQUEST, b"NN")):
            for pieces in cuts(requests + STARTUP):
                pipe = Pipe(factory("originate"))
                pipe.send(UP, *pieces)
                self.assertEqual((pipe.to_upstream, pipe.to_client), (SSL_REQUEST, answers), pieces)
                pipe.send(DOWN, b"S")
                self.assertEqual(pipe.secured, [Side.UPSTREAM])
                pipe.send(UP, b"more")
                pipe.send(DOWN, b"R")
                self.assertEqual(pipe.to_upstream, SSL_REQUEST + STARTUP + b"more")
                self.assertEqual(pipe.to_client, answers + b"R")

    def test_no_tls(self) -> None:
        """An upstream without TLS gets nothing of the client's, which is told."""
        for answer in (b"N", b"E\0\0\0\x05x"):
            pipe = Pipe(factory("originate"))
            pipe.send(UP, STARTUP)
            pipe.send(DOWN, answer)
            self.assertEqual(pipe.to_upstream, SSL_REQUEST)
            self.assertEqual(pipe.to_client, refusal("the server behind this one has no TLS"))
            assert pipe.finished is not None
            self.assertEqual(pipe.finished.detail, "the upstream has no TLS")

    def test_silence(self) -> None:
        """Nothing goes in plain to an upstream that does not answer, however long it takes, or that ends."""
        for event in ("time", "end", "much"):
            pipe = Pipe(factory("originate"))
            pipe.send(UP, STARTUP)
            if event == "time":
                pipe.advance(LIMIT)
            elif event == "end":
                pipe.end(DOWN)
            else:
                pipe.send(UP, bytes(MAX_WAITING))
            self.assertIsNotNone(pipe.finished, event)
            self.assertEqual(pipe.to_upstream, SSL_REQUEST)

    def test_options(self) -> None:
        """The options of TLS are those of a target."""
        options = StartTLSOptions(mode="originate", ca="/a", server_name="db", verify=False, client_cert="/c")
        expected = {"ca": "/a", "server-name": "db", "client-cert": "/c", "verify": "off"}
        self.assertEqual(options.starts_tls, {Side.UPSTREAM: expected})
        self.assertRaises(OptionError, StartTLSOptions, mode="originate", cert="/a")
        self.assertRaises(OptionError, StartTLSOptions, mode="originate", require=True)


class PassTests(SynchronousTestCase):
    """``answer``, `sni` and ``ask``: the name in the ClientHello chooses the upstream."""

    def pipe(self) -> Pipe:
        """A rule with all three."""
        chooses = sni.PLUGIN.configure(sni.SNIOptions(), [RouteClause(("db.example",), "db")])
        return Pipe(factory("answer"), chooses, factory("ask"))

    def test_every_split(self) -> None:
        """The upstream that the name chooses gets the request, and the ClientHello when it has agreed."""
        hello = openssl("db.example")
        for pieces in cuts(SSL_REQUEST + hello):
            pipe = self.pipe()
            pipe.send(UP, *pieces)
            assert pipe.dialled is not None
            self.assertEqual(
                (pipe.dialled.target, pipe.to_client, pipe.to_upstream), ("db", b"S", SSL_REQUEST)
            )
            pipe.send(DOWN, b"S")
            pipe.send(DOWN, b"server hello")
            self.assertEqual(pipe.to_upstream, SSL_REQUEST + hello)
            self.assertEqual((pipe.to_client, pipe.secured), (b"Sserver hello", []))

    def test_plain(self) -> None:
        """A client without TLS has no name, and is refused."""
        pipe = self.pipe()
        pipe.send(UP, STARTUP)
        self.assertIsNone(pipe.dialled)
        self.assertEqual(pipe.to_client, refusal("this server wants TLS"))

    def test_direct(self) -> None:
        """A client that begins TLS without a request is passed too."""
        pipe = self.pipe()
        pipe.send(UP, openssl("db.example"))
        assert pipe.dialled is not None
        self.assertEqual((pipe.dialled.target, pipe.to_client), ("db", b""))

    def test_injection(self) -> None:
        """Plain bytes of the upstream before TLS end the session: nobody may put words before TLS."""
        pipe = self.pipe()
        pipe.send(UP, SSL_REQUEST + openssl("db.example"))
        pipe.send(DOWN, b"Sinjected")
        assert pipe.finished is not None
        self.assertTrue(pipe.finished.abort)
        self.assertEqual(pipe.to_client, b"S")


class ContractTests(SynchronousTestCase):
    """The contract."""

    def test_contract(self) -> None:
        """Every mode keeps the contract."""
        check_filter(lambda: factory("terminate"), [SSL_REQUEST + STARTUP, GSS_REQUEST + STARTUP, STARTUP])
        check_filter(lambda: factory("answer"), [SSL_REQUEST + b"\x16hello"])
        for mode in ("originate", "ask"):
            check_filter(lambda mode=mode: factory(mode), [[(UP, b"\x16hello"), (DOWN, b"S"), (DOWN, b"R")]])
