# -*- test-case-name: tests.upstreams.test_stub_resolver -*-
"""
A stub resolver (RFC 1034 section 5.3.1) whose look-ups can be given up at any moment: for names that clients
choose.

It asks the name servers of resolv.conf for A and AAAA records, over UDP and, when an answer is truncated,
over TCP; the hosts file comes first, and search domains are tried. A look-up costs one socket and no thread,
so a name that is never answered occupies nothing but that, and giving it up closes the socket. Each socket is
connected to its server, so that nobody else's datagrams come in, and an answer must repeat the question (RFC
5452 section 9.1).

What the system's resolver does beyond that (mDNS, LDAP, other modules of nsswitch.conf) it does not do.
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
from portfwd.kernel.sockets import inet_family, sockaddr_of
from portfwd.upstreams.resolver_files import ResolverConfig, ResolverFiles, candidates

#: The port of name servers.
DNS_PORT: Final = 53

#: Seconds for which an address family is waited for when the other one has answered: servers that do not
#: answer one kind of question at all must not cost their whole time limit.
OTHER_FAMILY: Final = 1.0

#: RFC 1035 section 2.3.4: a name has at most 255 octets, which leaves 253 characters of text.
MAX_NAME: Final = 253
MAX_LABEL: Final = 63

#: Datagrams that are read at a time: more than the two that are expected, so that forged ones do not stall a
#: turn.
MAX_READS: Final = 8

_KINDS: Final = (dns.AAAA, dns.A)
_NXDOMAIN: Final = 3

Done = Callable[[Sequence[str]], None]


def ascii_name(host: str) -> str | None:
    """`host` as name servers know it (IDNA 2008, RFC 5891); None if it cannot be the name of anything."""
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
    """The addresses that an answer gives for `name`, also by way of CNAME records (RFC 1034, 3.6.2)."""
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
    Both questions for one name, put to one server.

    The socket is one of ours: a port of Twisted's would write a line to the log for each look-up.

    :ivar found: the addresses that came.
    """

    def __init__(
        self, reactor: Any, server: tuple[str, int], name: str, over: Callable[[bool], None]
    ) -> None:
        """:param over: told whether the server has answered the questions; what it said is in `found`."""
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
        """Ask."""
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
            # Told from the loop, so that whoever asks need not expect an outcome within this call.
            self._timer.reset(0)

    def _question(self, number: int, kind: int) -> bytes:
        message = dns.Message(number, recDes=1)
        message.addQuery(self._name, kind)
        return message.toStr()

    def stop(self) -> None:
        """Close the socket; nobody is told any more."""
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
        """The reactor gives everything up."""
        self._end(bool(self.found))

    def doRead(self) -> None:
        """Take what has come; what is no answer is passed over."""
        for _ in range(MAX_READS):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError:  # nobody listens there
                self._end(bool(self.found))
                return
            self._take(data, over_tcp=False)

    def answered_by_tcp(self, data: bytes) -> None:
        """An answer to a question that was put again over TCP."""
        self._take(data, over_tcp=True)

    def tcp_over(self, number: int) -> None:
        """The connection for the question `number` is gone; without an answer, the server has failed."""
        if number in self._open:
            self._end(bool(self.found))

    def _take(self, data: bytes, *, over_tcp: bool) -> None:
        message = dns.Message()
        try:
            message.fromStr(data)
        except Exception:
            return  # not an answer; the real one may still come
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
        """RFC 5452 section 9.1: the question section of an answer is the question."""
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
    """One question over TCP, and its answer."""

    noisy = False

    def __init__(self, question: bytes, number: int, exchange: _Exchange) -> None:
        self._question = question
        self._number = number
        self._exchange = exchange

    def buildProtocol(self, addr: object) -> Int16StringReceiver:
        """RFC 1035 section 4.2.2: each message has its length in two bytes before it."""
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
        """Nobody listens there."""
        self._exchange.tcp_over(self._number)

    def clientConnectionLost(self, connector: object, reason: Failure) -> None:  # noqa: N802 - Twisted's
        """With the answer or without."""
        self._exchange.tcp_over(self._number)


class _LookUp:
    """One look-up: names of the search list, servers and attempts, one after the other."""

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
        """Go on with the next full name; without one there is no answer."""
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
            self.next_name()  # no server says anything of this name
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
        """Close what is open."""
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
            # RFC 6761 section 6.3: name resolution libraries answer these themselves, with the loopback
            # addresses.
            known = ("::1", "127.0.0.1")
        if known:
            done(known)
            return _nothing
        look_up = _LookUp(self._reactor, self._files.config, name, self._port, done)
        look_up.next_name()
        return look_up.give_up


def _nothing() -> None:
    """The outcome was told already."""
