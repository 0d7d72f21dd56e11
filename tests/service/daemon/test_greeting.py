"""The upstream of the quick start: one answer, then the end."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, cast
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamClientEndpointStringParserWithReactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from portfwd.service.daemon.greeting import MAX_HEAD, PAGE, Greeting, GreetingEndpoint, GreetingParser

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"


class Client(Protocol):
    """Collects an answer."""

    def __init__(self) -> None:
        self.received = b""
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008 - Twisted's form
        self.done.callback(self.received)


class GreetingTests(TestCase):
    """The protocol, then the endpoint over real sockets."""

    def greeting(self, *chunks: bytes) -> StringTransport:
        """What it answers."""
        protocol, transport = Greeting(), StringTransport()
        protocol.makeConnection(transport)
        for chunk in chunks:
            protocol.dataReceived(chunk)
        return transport

    def test_answer(self) -> None:
        """A page that says what to try next, with its length, and the end."""
        transport = self.greeting(REQUEST)
        head, _, body = transport.value().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertIn(b"Content-Length: %d" % len(PAGE), head)
        self.assertEqual(body, PAGE)
        self.assertTrue(transport.disconnecting)

    def test_split_anywhere(self) -> None:
        """However the request is cut, it is answered once, and not before it is whole."""
        for cut in range(1, len(REQUEST)):
            self.assertEqual(self.greeting(REQUEST[:cut]).value(), b"")
            self.assertEqual(self.greeting(REQUEST[:cut], REQUEST[cut:]).value().count(b"200 OK"), 1)

    def test_plain_line_ends(self) -> None:
        """What a person types is a request too."""
        self.assertIn(b"200 OK", self.greeting(b"GET /\n\n").value())

    def test_endless_head(self) -> None:
        """A head without end is given up."""
        transport = self.greeting(b"x" * MAX_HEAD, b"x")
        self.assertEqual(transport.value(), b"")
        self.assertTrue(transport.disconnecting)

    async def test_endpoint(self) -> None:
        """`endpoint:"portfwd-greeting:"` connects to a greeting of its own, by a real socket."""
        endpoint = GreetingParser().parseStreamClient(cast(Any, reactor))
        verifyObject(IStreamClientEndpoint, endpoint)
        client = await endpoint.connect(Factory.forProtocol(Client))
        assert isinstance(client, Client)
        client.transport.write(REQUEST)  # type: ignore[union-attr]
        self.assertTrue((await client.done).endswith(PAGE))

    async def test_factory_without_protocol(self) -> None:
        """A factory that makes no protocol is an error, not a leak."""
        factory = mock.Mock(buildProtocol=lambda _: None)
        with self.assertRaises(ConnectError):
            await GreetingEndpoint(cast(Any, reactor)).connect(factory)

    async def test_no_descriptors(self) -> None:
        """Without descriptors the connection fails as any other would, with the errno."""
        problem = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.patch(socket, "socketpair", mock.Mock(side_effect=problem))
        with self.assertRaises(ConnectError) as caught:
            await GreetingEndpoint(cast(Any, reactor)).connect(Factory.forProtocol(Client))
        self.assertEqual(caught.exception.osError, errno.EMFILE)

    def test_parser(self) -> None:
        """The description takes no arguments, and Twisted finds the parser."""
        parser = GreetingParser()
        verifyObject(IStreamClientEndpointStringParserWithReactor, parser)
        self.assertRaises(ValueError, parser.parseStreamClient, cast(Any, reactor), "x")
        self.assertRaises(ValueError, parser.parseStreamClient, cast(Any, reactor), port="1")
        parser.parseStreamClient(cast(Any, reactor), "")
        self.assertIsInstance(clientFromString(reactor, "portfwd-greeting:"), GreetingEndpoint)
