# -*- test-case-name: tests.service.daemon.test_greeting -*-
"""
An upstream inside the process, for the quick start: ``endpoint:"portfwd-greeting:"``.

It answers one HTTP request with a page that says what to try next, over a
socket pair, so the relay has a real socket to work with. It is no web server
and refuses to become one.
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

#: Most bytes of a request's head; a browser's with cookies fits.
MAX_HEAD: Final = 16384
_BUFFER: Final = 65536

PAGE: Final = b"""\
It works: this answer came through portfwd.

Try next:
  - forward to this very port from another, no file needed:
        .venv/bin/twistd -n --pidfile= portfwd --rule ':8081 -> 127.0.0.1:8080'
  - look at the file that made this: examples/quickstart.conf
  - break it, and let it be judged:
        .venv/bin/portfwd check examples/quickstart.conf
  - stop with Ctrl-C: open connections get ten seconds to finish.
"""


class Greeting(Protocol):
    """Answers when the head of a request is complete, then ends."""

    def __init__(self) -> None:
        self._head = b""

    def dataReceived(self, data: bytes) -> None:
        """More of the request."""
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
    """Connects to a `Greeting` of its own each time."""

    def __init__(self, reactor: IReactorFDSet) -> None:
        self._reactor = reactor

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Join a protocol of `protocolFactory` to a new greeting."""
        # The address is for factories that want to know; there is none.
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
    """Makes ``portfwd-greeting:`` known to Twisted's endpoint descriptions."""

    prefix = "portfwd-greeting"

    def parseStreamClient(self, reactor: IReactorCore, *args: object, **kwargs: object) -> GreetingEndpoint:
        """The endpoint; it takes no arguments."""
        if any(args) or kwargs:
            raise ValueError("portfwd-greeting: takes no arguments")
        return GreetingEndpoint(IReactorFDSet(reactor))
