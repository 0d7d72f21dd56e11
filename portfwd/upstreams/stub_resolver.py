# -*- test-case-name: tests.upstreams.test_stub_resolver -*-
"""
A stub resolver (RFC 1034 section 5.3.1) for names chosen by clients. Its look-ups can be cancelled.

The hosts file is read first. Then the name servers of resolv.conf are asked for A and AAAA records over UDP,
or over TCP if an answer is truncated. Search domains are tried. A look-up uses one socket and no thread;
cancelling it closes the socket. The socket is connected to the server, so datagrams of other senders are
dropped, and an answer must repeat the question (RFC 5452 section 9.1).

Other sources of the system's resolver (mDNS, LDAP, further modules of nsswitch.conf) are not supported.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from secrets import randbelow
from typing import Any, Final

import idna
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.internet.protocol import ClientFactory
from twisted.names import dns
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.kernel.datagrams import LARGEST, datagram_socket
from portfwd.kernel.socket_addresses import inet_family, sockaddr_of
from portfwd.upstreams.resolver_files import ResolverConfig, ResolverFiles, candidates

#: The port of name servers.
DNS_PORT: Final = 53

#: Seconds to wait for one address family after the other one was answered. Some servers never answer one of
#: the questions; this avoids waiting for the whole timeout.
OTHER_FAMILY: Final = 1.0

#: RFC 1035 section 2.3.4: a name has at most 255 octets, which leaves 253 characters of text.
MAX_NAME: Final = 253
MAX_LABEL: Final = 63

#: Maximum datagrams that are read in one turn. Two are expected; forged ones must not block the reactor.
MAX_READS: Final = 8

_KINDS: Final = (dns.AAAA, dns.A)
_NXDOMAIN: Final = 3

Done = Callable[[Sequence[str]], None]


def ascii_name(host: str) -> str | None:
    """Convert `host` to the form of DNS (IDNA 2008, RFC 5891); None if it is not a valid name."""
    name = host
    if not host.isascii():
        try:
            name = idna.encode(host, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return None
    labels = name.removesuffix(".").split(".")
    if len(name) > MAX_NAME or not all(0 < len(label) <= MAX_LABEL for label in labels):
        return None
    return name


def addresses_in(message: dns.Message, name: bytes) -> list[str]:
    """Return the addresses of `name` in an answer; CNAME records are followed (RFC 1034 section 3.6.2)."""
    names = {name.lower()}
    found: list[str] = []
    for record in message.answers:
        owner = record.name.name.lower()
        if owner not in names:
            continue
        payload = record.payload
        if isinstance(payload, dns.Record_CNAME):
            names.add(payload.name.name.lower())
        elif isinstance(payload, (dns.Record_A, dns.Record_AAAA)):
            family = socket.AF_INET if isinstance(payload, dns.Record_A) else socket.AF_INET6
            found.append(socket.inet_ntop(family, payload.address))
    return found


@implementer(IReadDescriptor)
class _Exchange:
    """
    Both questions for one name to one server.

    It uses its own socket, because a port of Twisted logs a line for each look-up.

    :ivar found: the addresses received so far.
    """

    def __init__(
        self, reactor: Any, server: tuple[str, int], name: str, over: Callable[[bool], None]
    ) -> None:
        """:param over: called with whether the server has answered; the addresses are in `found`."""
        self.found: list[str] = []
        self._reactor = reactor
        self._server = server
        self._name = name.encode("ascii")
        self._over = over
        self._open: dict[int, int] = {}
        self._failed = False
        self._socket: socket.socket | None = None
        self._timer: IDelayedCall | None = None
        self._streams: list[Any] = []

    def start(self, seconds: float) -> None:
        """Send the questions."""
        host, port = self._server
        self._timer = self._reactor.callLater(seconds, self._out_of_time)
        try:
            self._socket = sock = datagram_socket(inet_family(host))
            self._reactor.addReader(self)
            sock.connect(sockaddr_of(host, port))
            for kind in _KINDS:
                number = randbelow(65536)
                while number in self._open:
                    number = randbelow(65536)
                self._open[number] = kind
                sock.send(self._question(number, kind))
        except OSError:
            # Report the failure in the next turn: callers do not expect an outcome within this call.
            self._timer.reset(0)

    def _question(self, number: int, kind: int) -> bytes:
        message = dns.Message(number, recDes=1)
        message.addQuery(self._name, kind)
        return message.toStr()

    def stop(self) -> None:
        """Close the sockets; `over` is not called any more."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.disconnect()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """The prefix of log lines."""
        return "portfwd"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops."""
        self._end(bool(self.found))

    def doRead(self) -> None:
        """Read the received datagrams; those that are not answers are ignored."""
        for _ in range(MAX_READS):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError:  # the port of the server is closed
                self._end(bool(self.found))
                return
            self._take(data, over_tcp=False)

    def answered_by_tcp(self, data: bytes) -> None:
        """An answer was received over TCP."""
        self._take(data, over_tcp=True)

    def tcp_over(self, number: int) -> None:
        """The connection for the question `number` is closed. Without an answer, the server has failed."""
        if number in self._open:
            self._end(bool(self.found))

    def _take(self, data: bytes, *, over_tcp: bool) -> None:
        message = dns.Message()
        try:
            message.fromStr(data)
        except Exception:
            return  # not an answer; the right one may follow
        kind = self._open.get(message.id)
        if self._timer is None or kind is None or not message.answer or not self._repeats(message, kind):
            return
        found = addresses_in(message, self._name) if message.rCode == 0 else []
        if message.trunc and not found and not over_tcp:
            self._ask_by_tcp(message.id, kind)
            return
        del self._open[message.id]
        self.found += found
        self._failed = self._failed or message.rCode not in (0, _NXDOMAIN)
        if not self._open:
            self._end(bool(self.found) or not self._failed)
        elif self.found and self._timer is not None:
            self._timer.reset(OTHER_FAMILY)

    def _repeats(self, message: dns.Message, kind: int) -> bool:
        """RFC 5452 section 9.1: the question section of an answer must equal the question."""
        return len(message.queries) == 1 and (
            message.queries[0].name.name.lower() == self._name.lower() and message.queries[0].type == kind
        )

    def _ask_by_tcp(self, number: int, kind: int) -> None:
        """RFC 7766 section 5: ask again over TCP."""
        factory = _TCPQuestion(self._question(number, kind), number, self)
        self._streams.append(self._reactor.connectTCP(*self._server, factory))

    def _out_of_time(self) -> None:
        self._end(bool(self.found))

    def _end(self, answered: bool) -> None:
        if self._timer is not None:
            self.stop()
            self._over(answered)


class _TCPQuestion(ClientFactory):
    """One question over TCP."""

    noisy = False

    def __init__(self, question: bytes, number: int, exchange: _Exchange) -> None:
        self._question = question
        self._number = number
        self._exchange = exchange

    def buildProtocol(self, addr: object) -> Int16StringReceiver:
        """RFC 1035 section 4.2.2: a length of two bytes precedes each message."""
        question, exchange = self._question, self._exchange

        class Conversation(Int16StringReceiver):
            def connectionMade(self) -> None:
                self.sendString(question)

            def stringReceived(self, string: bytes) -> None:
                exchange.answered_by_tcp(string)
                if self.transport is not None:
                    self.transport.loseConnection()

        return Conversation()

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:  # noqa: N802 - Twisted's
        """The connection was refused or failed."""
        self._exchange.tcp_over(self._number)

    def clientConnectionLost(self, connector: object, reason: Failure) -> None:  # noqa: N802 - Twisted's
        """The connection was closed, with or without an answer."""
        self._exchange.tcp_over(self._number)


class _LookUp:
    """One look-up: tries the names of the search list, the servers and the attempts in order."""

    def __init__(self, reactor: Any, config: ResolverConfig, name: str, port: int, done: Done) -> None:
        self._reactor = reactor
        self._config = config
        self._port = port
        self._done = done
        self._names = iter(candidates(name, config))
        self._name = ""
        self._servers: Iterator[str] = iter(())
        self._exchange: _Exchange | None = None

    def next_name(self) -> None:
        """Try the next full name; if there is none, report that there are no addresses."""
        for name in self._names:
            if len(name) <= MAX_NAME:
                self._name = name
                self._servers = iter(self._config.servers * self._config.attempts)
                self._next_server()
                return
        self._exchange = None
        self._done(())

    def _next_server(self) -> None:
        server = next(self._servers, None)
        if server is None:
            self.next_name()  # no server has answered for this name
            return
        self._exchange = exchange = _Exchange(self._reactor, (server, self._port), self._name, self._over)
        exchange.start(self._config.timeout)

    def _over(self, answered: bool) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange.found:
            self._done(list(dict.fromkeys(exchange.found)))
        elif answered:
            self.next_name()
        else:
            self._next_server()

    def give_up(self) -> None:
        """Cancel the look-up."""
        self._names = self._servers = iter(())
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.stop()


class StubResolver:
    """Implements `portfwd.upstreams.names.Resolver`."""

    def __init__(self, reactor: Any, files: ResolverFiles, port: int = DNS_PORT) -> None:
        self._reactor = reactor
        self._files = files
        self._port = port

    def __repr__(self) -> str:
        return f"<StubResolver of {', '.join(self._files.config.servers)}>"

    def look_up(self, host: str, done: Done) -> Callable[[], None]:
        """See `portfwd.upstreams.names.Resolver`."""
        name = ascii_name(host)
        if name is None:
            done(())
            return _nothing
        plain = name.lower().removesuffix(".")
        known = self._files.addresses(plain)
        if not known and (plain == "localhost" or plain.endswith(".localhost")):
            # RFC 6761 section 6.3: name resolution libraries answer these with the loopback addresses.
            known = ("::1", "127.0.0.1")
        if known:
            done(known)
            return _nothing
        look_up = _LookUp(self._reactor, self._files.config, name, self._port, done)
        look_up.next_name()
        return look_up.give_up


def _nothing() -> None:
    """Do nothing: the outcome was reported already."""
