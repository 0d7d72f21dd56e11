"""Tests of `portfwd.filters.builtin.starttls_smtp`, on plain bytes; integration tests have real TLS."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import TO_CLIENT, TO_UPSTREAM, RouteClause, Side
from portfwd.filters.builtin import sni
from portfwd.filters.builtin.starttls_options import StartTLSOptions
from portfwd.filters.builtin.starttls_smtp import FIRST_TLS, PLUGIN, READY
from portfwd.filters.builtin.starttls_upstream import LIMIT
from portfwd.testing import Pipe, check_filter
from tests.filters.builtin.test_starttls_postgres import cuts
from tests.wire.hellos import openssl

UP, DOWN = TO_UPSTREAM, TO_CLIENT
GREETING = b"220 mx.example ESMTP\r\n"
EHLO = b"EHLO me.example\r\n"
PLAIN = b"250-mx.example\r\n250 SIZE 1000\r\n"
OFFERED = b"250-mx.example\r\n250-SIZE 1000\r\n250 STARTTLS\r\n"


def factory(mode: str, **options: Any) -> Any:
    """A factory of the filter."""
    if mode == "terminate":
        options.setdefault("cert", "/etc/mx.pem")
    return PLUGIN.configure(StartTLSOptions(mode=mode, **options), ())


class TerminateTests(SynchronousTestCase):
    """``terminate``."""

    def greeted(self, **options: Any) -> Pipe:
        """A session in which the client knows what the server can do."""
        pipe = Pipe(factory("terminate", **options))
        pipe.send(DOWN, GREETING)
        pipe.send(UP, EHLO)
        pipe.send(DOWN, PLAIN)
        self.assertEqual(pipe.to_client, GREETING + OFFERED)
        return pipe

    def test_every_split(self) -> None:
        """However the command is cut, what is behind it is TLS's, and the upstream never sees it."""
        for pieces in cuts(b"STARTTLS\r\n" + EHLO):
            pipe = self.greeted()
            pipe.send(UP, *pieces)
            self.assertEqual(pipe.secured, [Side.CLIENT], pieces)
            self.assertTrue(pipe.to_client.endswith(READY))
            self.assertEqual(pipe.to_upstream, EHLO + EHLO)
            pipe.send(DOWN, OFFERED)
            self.assertTrue(pipe.to_client.endswith(READY + PLAIN))
            pipe.send(UP, b"MAIL FROM:<a@b>\r\n")
            self.assertTrue(pipe.to_upstream.endswith(b"MAIL FROM:<a@b>\r\n"))

    def test_replies_cut(self) -> None:
        """However the upstream's answer is cut, the extension is offered once."""
        for pieces in cuts(OFFERED):
            pipe = Pipe(factory("terminate"))
            pipe.send(DOWN, GREETING)
            pipe.send(UP, EHLO)
            pipe.send(DOWN, *pieces)
            self.assertEqual(pipe.to_client, GREETING + OFFERED)

    def test_plain(self) -> None:
        """Mail without TLS passes, or is refused."""
        pipe = self.greeted()
        pipe.send(UP, b"MAIL FROM:<a@b>\r\n")
        self.assertTrue(pipe.to_upstream.endswith(b"MAIL FROM:<a@b>\r\n"))
        pipe = self.greeted(require=True)
        pipe.send(UP, b"MAIL FROM:<a@b>\r\nNOOP\r\n")
        self.assertTrue(pipe.to_client.endswith(FIRST_TLS))
        self.assertEqual(pipe.to_upstream, EHLO + b"NOOP\r\n")

    def test_too_early(self) -> None:
        """A client that does not wait for answers before STARTTLS is reset: ours would overtake them."""
        pipe = Pipe(factory("terminate"))
        pipe.send(DOWN, GREETING)
        pipe.send(UP, EHLO + b"STARTTLS\r\n")
        assert pipe.finished is not None
        self.assertTrue(pipe.finished.abort)


class OriginateTests(SynchronousTestCase):
    """``originate``."""

    def test_every_split(self) -> None:
        """The client is greeted when TLS with the upstream has begun; it sees nothing of what came before."""
        for index, reply in enumerate((GREETING, OFFERED, READY)):
            for pieces in cuts(reply):
                pipe = Pipe(factory("originate"))
                for number, one in enumerate((GREETING, OFFERED, READY)):
                    pipe.send(DOWN, *(pieces if number == index else [one]))
                self.assertEqual(pipe.to_upstream, b"EHLO portfwd\r\nSTARTTLS\r\n")
                self.assertEqual((pipe.secured, pipe.to_client), ([Side.UPSTREAM], GREETING))
        pipe.send(UP, EHLO)
        pipe.send(DOWN, PLAIN)
        self.assertTrue(pipe.to_upstream.endswith(EHLO))
        self.assertEqual(pipe.to_client, GREETING + PLAIN)

    def test_early_client(self) -> None:
        """What a client says before the greeting goes into TLS."""
        pipe = Pipe(factory("originate"))
        pipe.send(UP, EHLO)
        pipe.send(DOWN, GREETING, OFFERED)
        self.assertNotIn(EHLO, pipe.to_upstream)
        pipe.send(DOWN, READY)
        self.assertTrue(pipe.to_upstream.endswith(EHLO))

    def test_no_tls(self) -> None:
        """An upstream without the extension, or that refuses, gets nothing of the client's."""
        for replies in ((b"554 no\r\n",), (GREETING, PLAIN), (GREETING, OFFERED, b"454 not now\r\n")):
            pipe = Pipe(factory("originate"))
            for reply in replies:
                pipe.send(DOWN, reply)
            self.assertTrue(pipe.to_client.startswith(b"421"), replies)
            self.assertIsNotNone(pipe.finished)

    def test_silence(self) -> None:
        """An upstream that does not go on ends the session."""
        pipe = Pipe(factory("originate"))
        pipe.send(DOWN, GREETING)
        pipe.advance(LIMIT)
        assert pipe.finished is not None
        self.assertTrue(pipe.finished.abort)


class PassTests(SynchronousTestCase):
    """``answer``, `sni` and ``ask``."""

    def test_name_chooses(self) -> None:
        """The name in the ClientHello chooses the upstream, however the client's bytes are cut."""
        hello = openssl("mx.example")
        said = EHLO + b"NOOP\r\nMAIL\r\nSTARTTLS\r\n"
        for pieces in cuts(said + hello[:5]):
            chooses = sni.PLUGIN.configure(sni.SNIOptions(), [RouteClause(("mx.example",), "mx")])
            pipe = Pipe(factory("answer"), chooses, factory("ask"))
            pipe.send(UP, *pieces, hello[5:])
            assert pipe.dialled is not None
            self.assertEqual(pipe.dialled.target, "mx")
            answers = b"220 portfwd ESMTP\r\n250-portfwd\r\n250 STARTTLS\r\n250 2.0.0 portfwd\r\n" + FIRST_TLS
            self.assertEqual(pipe.to_client, answers + READY)
            pipe.send(DOWN, GREETING)
            pipe.send(DOWN, OFFERED)
            self.assertEqual(pipe.to_upstream, b"EHLO portfwd\r\nSTARTTLS\r\n")
            pipe.send(DOWN, READY)
            self.assertEqual(pipe.to_upstream, b"EHLO portfwd\r\nSTARTTLS\r\n" + hello)
            self.assertEqual(pipe.to_client, answers + READY)

    def test_quit(self) -> None:
        """A client may quit before any upstream is known."""
        pipe = Pipe(factory("answer"))
        pipe.send(UP, b"QUIT\r\n")
        self.assertTrue(pipe.to_client.endswith(b"221 2.0.0 bye\r\n"))


class ContractTests(SynchronousTestCase):
    """The contract."""

    def test_contract(self) -> None:
        """Every mode keeps the contract."""
        talk = [
            (DOWN, GREETING),
            (UP, EHLO),
            (DOWN, PLAIN),
            (UP, b"STARTTLS\r\n"),
            (UP, EHLO),
            (DOWN, OFFERED),
        ]
        check_filter(lambda: factory("terminate"), [talk])
        check_filter(lambda: factory("answer"), [EHLO + b"STARTTLS\r\n\x16hello"])
        talk = [(DOWN, GREETING), (DOWN, OFFERED), (DOWN, READY), (UP, EHLO)]
        check_filter(lambda: factory("originate"), [talk])
        check_filter(lambda: factory("ask"), [talk[:3]])
