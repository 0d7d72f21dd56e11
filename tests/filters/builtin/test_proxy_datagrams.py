"""Tests of `portfwd.filters.builtin.proxy_datagrams`."""

from __future__ import annotations

from typing import Any, cast
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.api import DONE, DROP, Announce, Close, Connection, Forward, Route
from portfwd.filters.builtin.proxy_datagrams import DatagramProxyIn, DatagramProxyOut
from portfwd.filters.builtin.proxy_in import ProxyInOptions
from portfwd.filters.builtin.proxy_in import make_factory as make_in
from portfwd.filters.builtin.proxy_out import ProxyOutOptions
from portfwd.filters.builtin.proxy_out import make_factory as make_out
from portfwd.filters.options import networks
from portfwd.values import TO_CLIENT, TO_UPSTREAM, InetAddress
from portfwd.wire.proxy_header import Header
from portfwd.wire.proxy_v2 import build_v2, read_v2
from tests.filters.asking import a_connection

REAL, PLACE = InetAddress("203.0.113.9", 4711), InetAddress("198.51.100.1", 53)


class InTests(SynchronousTestCase):
    """What a trusted peer sends."""

    def test_each(self) -> None:
        """Each header is taken off; the first one says who the client is."""
        one = DatagramProxyIn()
        header = build_v2(Header(REAL, PLACE, datagram=True))
        self.assertEqual(
            one.received(TO_UPSTREAM, header + b"a"), (Announce(REAL, PLACE, ()), Route(), Forward(b"a"))
        )
        self.assertEqual(one.received(TO_UPSTREAM, header), Forward(b""))
        self.assertIs(one.received(TO_CLIENT, b"answer"), DONE)

    def test_first_only(self) -> None:
        """Behind the first header, a datagram without one is passed on as it is, an empty one too."""
        one = DatagramProxyIn()
        header = build_v2(Header(REAL, PLACE, datagram=True))
        one.received(TO_UPSTREAM, header + b"a")
        for data in (b"", b"question", b"\r\n\r\n", b"PROXY UNKNOWN\r\n"):
            self.assertIsNone(one.received(TO_UPSTREAM, data))
        self.assertEqual(one.received(TO_UPSTREAM, header + b"b"), Forward(b"b"))
        self.assertIs(one.received(TO_UPSTREAM, header[:-1]), DROP)

    def test_told_once(self) -> None:
        """The log is told of the first datagram that is dropped, and why."""
        one, log = DatagramProxyIn(), mock.Mock()
        connection = a_connection(network="udp")
        connection.log = log
        self.assertIsNone(one.opened(connection))
        for data in (b"question", b"another"):
            self.assertIs(one.received(TO_UPSTREAM, data), DROP)
        log.warn.assert_called_once()
        self.assertIn("PROXY", log.warn.call_args.kwargs["why"])

    def test_nothing_said(self) -> None:
        """A header of the sender itself, or of a stream, leaves the addresses as they are."""
        for header in (Header(local=True), Header(REAL, PLACE)):
            self.assertEqual(
                DatagramProxyIn().received(TO_UPSTREAM, build_v2(header) + b"a"), (Route(), Forward(b"a"))
            )

    def test_wrong(self) -> None:
        """A datagram without a whole header is dropped, and so is one of version 1."""
        header = build_v2(Header(REAL, PLACE, datagram=True))
        for data in (b"", b"question", header[:-1], b"PROXY UNKNOWN\r\nquestion"):
            self.assertIs(DatagramProxyIn().received(TO_UPSTREAM, data), DROP)


class OutTests(SynchronousTestCase):
    """What an upstream gets."""

    def connection(self, **parts: Any) -> Connection:
        """One with addresses."""
        return a_connection(network="udp", **parts)

    def test_each(self) -> None:
        """Each datagram has the header before it, an empty one too; answers have none."""
        one = DatagramProxyOut(2)
        connection = self.connection()
        self.assertIsNone(one.opened(connection))
        for data in (b"question", b""):
            sent = cast(bytes, one.received(TO_UPSTREAM, data))
            read = read_v2(sent)
            header = cast(Any, read).value
            self.assertTrue(header.datagram)
            self.assertEqual((header.source, header.destination), (connection.source, connection.destination))
            self.assertEqual(sent[cast(Any, read).used :], data)
        self.assertIs(one.received(TO_CLIENT, b"answer"), DONE)

    def test_first(self) -> None:
        """With ``datagrams=first`` the first one has it, and no other is shown to the filter."""
        one = DatagramProxyOut(2, first_only=True)
        one.opened(self.connection())
        verdict: Any = one.received(TO_UPSTREAM, b"question")
        self.assertIs(verdict[1], DONE)
        self.assertEqual(verdict[0].data[cast(Any, read_v2(verdict[0].data)).used :], b"question")
        factory = make_out(ProxyOutOptions(datagrams="first"), ())
        made: Any = factory.build(a_connection(network="udp"))
        made.opened(self.connection())
        self.assertIs(made.received(TO_UPSTREAM, b"question")[1], DONE)

    def test_unknown(self) -> None:
        """Where a client has no address the header says as much as there is to say."""
        one = DatagramProxyOut(2)
        connection = self.connection()
        connection.client = None
        one.opened(connection)
        self.assertTrue(cast(Any, read_v2(cast(bytes, one.received(TO_UPSTREAM, b"")))).value.local)

    def test_version_1(self) -> None:
        """Version 1 has no datagrams."""
        verdict = DatagramProxyOut(1).opened(self.connection())
        assert isinstance(verdict, Close)
        self.assertIn("version=2", verdict.reason)


class FactoryTests(SynchronousTestCase):
    """The same clauses as for connections."""

    def test_in(self) -> None:
        """By the rules for trust."""
        factory = make_in(ProxyInOptions(trust=networks("0.0.0.0/0")), ())
        self.assertIsInstance(factory.build(a_connection(network="udp")), DatagramProxyIn)

    def test_out(self) -> None:
        """By the network."""
        factory = make_out(ProxyOutOptions(), ())
        self.assertIsInstance(factory.build(a_connection(network="udp")), DatagramProxyOut)
        self.assertNotIsInstance(factory.build(a_connection()), DatagramProxyOut)
