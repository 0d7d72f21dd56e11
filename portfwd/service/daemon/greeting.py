# -*- test-case-name: tests.service.daemon.test_greeting -*-
"""
An upstream inside the process for the quick start: ``endpoint:"portfwd-greeting:"``.

It answers one HTTP request with a page about the next steps. The connection is a socket pair, so the relay
uses a real socket. It is not a web server.
"""

from __future__ import annotations

import socket
from typing import Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorCore,
    IReactorFDSet,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
)
from twisted.internet.protocol import Protocol
from twisted.plugin import IPlugin
from zope.interface import implementer

from portfwd.streams.transports.plain import PlainTransport

#: Maximum bytes of the head of a request; enough for a browser with cookies.
MAX_HEAD: Final = 16384
_BUFFER: Final = 65536

PAGE: Final = b"""\
It works: this answer came through portfwd.

Try next:
  - forward another port to this one, without a file:
        .venv/bin/portfwd run --rule ':8081 -> 127.0.0.1:8080'
  - look at the rules file: examples/quickstart.conf
  - change it, and check it:
        .venv/bin/portfwd check examples/quickstart.conf
  - stop with Ctrl-C: open connections get ten seconds to finish.
"""


class Greeting(Protocol):
    """Answers when the head of a request is complete, then closes the connection."""

    def __init__(self) -> None:
        self._head = b""

    def dataReceived(self, data: bytes) -> None:
        """See `IProtocol`."""
        self._head += data
        if b"\r\n\r\n" in self._head or b"\n\n" in self._head:
            self.transport.write(  # type: ignore[union-attr]
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
                b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(PAGE), PAGE)
            )
            self.transport.loseConnection()  # type: ignore[union-attr]
        elif len(self._head) > MAX_HEAD:
            self.transport.loseConnection()  # type: ignore[union-attr]


@implementer(IStreamClientEndpoint)
class GreetingEndpoint:
    """Connects to a new `Greeting` each time."""

    def __init__(self, reactor: IReactorFDSet) -> None:
        self._reactor = reactor

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect a protocol of `protocolFactory` to a new `Greeting`."""
        # There is no address.
        protocol = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        if protocol is None:
            return fail(ConnectError(string="the factory made no protocol"))
        try:
            ours, theirs = socket.socketpair()
        except OSError as problem:
            return fail(ConnectError(problem.errno, problem.strerror))
        for sock, one in ((theirs, Greeting()), (ours, protocol)):
            transport = PlainTransport(sock, one, self._reactor, _BUFFER)
            one.makeConnection(transport)
            transport.startReading()
        return succeed(protocol)


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class GreetingParser:
    """Parses ``portfwd-greeting:`` in Twisted's endpoint descriptions."""

    prefix = "portfwd-greeting"

    def parseStreamClient(self, reactor: IReactorCore, *args: object, **kwargs: object) -> GreetingEndpoint:
        """The endpoint, which takes no arguments."""
        if any(args) or kwargs:
            raise ValueError("portfwd-greeting: takes no arguments")
        return GreetingEndpoint(IReactorFDSet(reactor))
