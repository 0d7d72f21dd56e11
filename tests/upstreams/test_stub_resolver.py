"""Tests of the stub resolver, against name servers on the loopback that say what the test wants."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.protocols.basic import Int16StringReceiver
from twisted.trial.unittest import SynchronousTestCase, TestCase

from portfwd.upstreams import stub_resolver as module
from portfwd.upstreams.resolver_files import ResolverConfig
from portfwd.upstreams.stub_resolver import OTHER_FAMILY, StubResolver, ascii_name

#: What a server answers to a name and a kind of question: records, or a response code, or None for silence.
Says = Callable[[str, int], "Sequence[dns.RRHeader] | int | None"]


def address(name: str, literal: str) -> dns.RRHeader:
    """An address record."""
    payload = dns.Record_AAAA(literal) if ":" in literal else dns.Record_A(literal)
    return dns.RRHeader(name, payload.TYPE, dns.IN, 60, payload)


def alias(name: str, other: str) -> dns.RRHeader:
    """A CNAME record."""
    return dns.RRHeader(name, dns.CNAME, dns.IN, 60, dns.Record_CNAME(other))


def answer_to(question: bytes, says: Says, *, truncated: bool = False) -> bytes | None:
    """What a server sends for a question."""
    message = dns.Message()
    message.fromStr(question)
    query = message.queries[0]
    said = says(query.name.name.decode(), query.type)
    if said is None:
        return None
    answer = dns.Message(message.id, answer=1, recDes=1, recAv=1, trunc=int(truncated))
    answer.queries = message.queries
    if isinstance(said, int):
        answer.rCode = said
    elif not truncated:
        answer.answers = list(said)
    return answer.toStr()


class Server(DatagramProtocol):
    """A name server for datagrams. :ivar asked: names and kinds, in order. :ivar forge: changes an answer."""

    noisy = False

    def __init__(self, says: Says) -> None:
        self.says = says
        self.asked: list[tuple[str, int]] = []
        self.truncates = False
        self.forge: Callable[[bytes], Sequence[bytes]] = lambda data: [data]

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        message = dns.Message()
        message.fromStr(datagram)
        self.asked.append((message.queries[0].name.name.decode(), message.queries[0].type))
        answer = answer_to(datagram, self.says, truncated=self.truncates)
        if answer is not None:
            for data in self.forge(answer):
                self.transport.write(data, addr)


class Files:
    """What the files say."""

    def __init__(self, config: ResolverConfig) -> None:
        self.config = config
        self.hosts: dict[str, Sequence[str]] = {}

    def addresses(self, name: str) -> Sequence[str]:
        return self.hosts.get(name, ())


class StubResolverTests(TestCase):
    """`StubResolver`."""

    def setUp(self) -> None:
        """One server, which knows ``app.test`` and says of everything else that it does not exist."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.records = {"app.test": [address("app.test", "2001:db8::1"), address("app.test", "192.0.2.1")]}
        self.server = Server(self.says)
        port = self.reactor.listenUDP(0, self.server, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        self.files = Files(ResolverConfig(("127.0.0.1",), timeout=20.0))
        self.resolver = StubResolver(self.reactor, self.files, self.port)  # type: ignore[arg-type]

    def says(self, name: str, kind: int) -> Sequence[dns.RRHeader] | int | None:
        """The usual answers."""
        if name not in self.records:
            return 3
        return [record for record in self.records[name] if record.type in (kind, dns.CNAME)]

    def ask(self, host: str) -> Deferred[list[str]]:
        """The addresses of a name, sorted."""
        answered: Deferred[Sequence[str]] = Deferred()
        self.resolver.look_up(host, answered.callback)
        return answered.addCallback(sorted)

    async def test_both_families(self) -> None:
        """A and AAAA records are asked for, and both come."""
        self.assertEqual(await self.ask("app.test"), ["192.0.2.1", "2001:db8::1"])
        self.assertEqual(sorted(self.server.asked), [("app.test", dns.A), ("app.test", dns.AAAA)])

    async def test_no_such_name(self) -> None:
        """A name that does not exist, or has no address, is an empty answer at once."""
        self.assertEqual(await self.ask("other.test"), [])
        self.server.says = lambda name, kind: []
        self.assertEqual(await self.ask("other.test"), [])

    async def test_alias(self) -> None:
        """Addresses behind a CNAME count; those of other names in the answer do not."""
        self.server.says = lambda name, kind: [
            alias("www.test", "app.test"),
            address("APP.test", "192.0.2.1"),
            address("evil.test", "192.0.2.66"),
        ]
        self.assertEqual(await self.ask("www.test"), ["192.0.2.1"])

    async def test_search(self) -> None:
        """Search domains are tried as ``ndots`` says."""
        self.files.config = ResolverConfig(("127.0.0.1",), ("none.example", "test"), timeout=20.0)
        self.assertEqual(await self.ask("app"), ["192.0.2.1", "2001:db8::1"])
        names = list(dict.fromkeys(name for name, _ in self.server.asked))
        self.assertEqual(names, ["app.none.example", "app.test"])

    async def test_hosts_file(self) -> None:
        """The hosts file comes first; ``localhost`` needs no server (RFC 6761 section 6.3)."""
        self.files.hosts = {"app.test": ["10.0.0.9"]}
        self.assertEqual(await self.ask("App.Test."), ["10.0.0.9"])
        self.assertEqual(await self.ask("localhost"), ["127.0.0.1", "::1"])
        self.assertEqual(await self.ask("x.localhost"), ["127.0.0.1", "::1"])
        self.assertEqual(self.server.asked, [])

    async def test_next_server(self) -> None:
        """A server that fails, or that is not there, is passed over."""
        self.files.config = ResolverConfig(("127.0.0.2", "127.0.0.1"), timeout=20.0)
        self.assertEqual(await self.ask("app.test"), ["192.0.2.1", "2001:db8::1"])
        failures = iter([2, 2])
        self.server.says = lambda name, kind: next(failures, None) or self.says(name, kind)
        self.files.config = ResolverConfig(("127.0.0.1", "127.0.0.1"), timeout=20.0)
        self.assertEqual(await self.ask("app.test"), ["192.0.2.1", "2001:db8::1"])

    async def test_every_server_fails(self) -> None:
        """Then there is no answer; each was asked as often as ``attempts`` says."""
        self.server.says = lambda name, kind: 2
        self.assertEqual(await self.ask("app.test"), [])
        self.assertEqual(len(self.server.asked), 4)

    async def test_truncated(self) -> None:
        """A truncated answer is asked for again over TCP."""
        says = self.says

        class OverTCP(Int16StringReceiver):
            def stringReceived(self, string: bytes) -> None:
                answer = answer_to(string, says)
                assert answer is not None
                self.sendString(answer)

        factory = Factory.forProtocol(OverTCP)
        for _ in range(20):
            port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
            self.addCleanup(port.stopListening)
            server = Server(says)
            server.truncates = True
            try:
                datagrams = self.reactor.listenUDP(port.getHost().port, server, interface="127.0.0.1")
            except CannotListenError:
                continue  # another program has this port for datagrams
            self.addCleanup(datagrams.stopListening)
            break
        self.resolver = StubResolver(self.reactor, self.files, port.getHost().port)  # type: ignore[arg-type]
        self.assertEqual(await self.ask("app.test"), ["192.0.2.1", "2001:db8::1"])

    async def test_truncated_and_no_tcp(self) -> None:
        """Where nobody answers over TCP the server has failed."""
        self.server.truncates = True
        self.assertEqual(await self.ask("app.test"), [])

    async def test_forged(self) -> None:
        """Bytes that are no answer, unknown numbers, questions, and answers to others change nothing."""

        def forge(data: bytes) -> Sequence[bytes]:
            other = dns.Message()
            other.fromStr(data)
            other.queries = [dns.Query(b"evil.test", other.queries[0].type)]
            number = (int.from_bytes(data[:2], "big") ^ 0x5555).to_bytes(2, "big")
            asking = data[:2] + bytes([data[2] & 0x7F]) + data[3:]
            return [b"", b"\xff" * 40, number + data[2:], asking, other.toStr(), data]

        self.server.forge = forge
        self.assertEqual(await self.ask("app.test"), ["192.0.2.1", "2001:db8::1"])


class TimeTests(SynchronousTestCase):
    """Limits of time, over a reactor that the test moves."""

    def setUp(self) -> None:
        self.reactor = UDPClock()
        self.patch(module, "datagram_socket", self.reactor.datagram_socket)
        self.files = Files(ResolverConfig(("192.0.2.53", "192.0.2.54"), timeout=5.0, attempts=2))
        self.resolver = StubResolver(self.reactor, self.files)  # type: ignore[arg-type]
        self.answers: list[Sequence[str]] = []

    def test_given_up(self) -> None:
        """A look-up that is given up leaves no socket and no timer, and tells nobody."""
        give_up = self.resolver.look_up("app.test", self.answers.append)
        give_up()
        give_up()
        self.assertEqual((self.answers, self.reactor.open, self.reactor.getDelayedCalls()), ([], 0, []))

    def test_silent_servers(self) -> None:
        """Each server has its time, in turn, as often as ``attempts`` says."""
        self.resolver.look_up("app.test", self.answers.append)
        for _ in range(4):
            self.assertEqual(self.answers, [])
            self.reactor.advance(5.0)
        self.assertEqual(self.answers, [()])
        self.assertEqual(self.reactor.servers, ["192.0.2.53", "192.0.2.54"] * 2)
        self.assertEqual((self.reactor.open, self.reactor.getDelayedCalls()), (0, []))

    def test_reactor_gives_up(self) -> None:
        """A reactor that gives its readers up ends the exchange, as a server that fails does."""
        self.resolver.look_up("app.test", self.answers.append)
        self.reactor.reader.connectionLost(None)
        self.assertEqual(self.reactor.servers, ["192.0.2.53", "192.0.2.54"])
        self.assertEqual((self.reactor.open, self.reactor.reader.logPrefix()), (1, "portfwd"))

    def test_one_family_is_silent(self) -> None:
        """When one family has answered, the other one is waited for no longer than `OTHER_FAMILY`."""
        self.resolver.look_up("app.test", self.answers.append)
        self.reactor.advance(1.0)
        self.reactor.answer(lambda name, kind: [address(name, "192.0.2.1")] if kind == dns.A else None)
        self.reactor.advance(OTHER_FAMILY)
        self.assertEqual(self.answers, [["192.0.2.1"]])
        self.assertEqual((self.reactor.open, self.reactor.getDelayedCalls()), (0, []))

    def test_no_socket(self) -> None:
        """Without a descriptor left there is no answer, and the caller is told later."""
        self.reactor.broken = True
        self.resolver.look_up("app.test", self.answers.append)
        self.assertEqual(self.answers, [])
        for _ in range(4):
            self.reactor.advance(0)
        self.assertEqual(self.answers, [()])

    def test_names_that_are_none(self) -> None:
        """Names that cannot exist are not asked for; IDNA 2008 names are asked for in ASCII."""
        for host in ("a..b", "x" * 64, ".".join(["x" * 60] * 5), "", "\udcff.test", "xn--\u00e4.test"):
            self.resolver.look_up(host, self.answers.append)
        self.assertEqual((self.answers, self.reactor.servers), ([()] * 6, []))
        self.assertEqual(ascii_name("stra\u00dfe.test"), "xn--strae-oqa.test")
        self.assertEqual(ascii_name("app.test."), "app.test.")
        self.assertEqual(repr(self.resolver), "<StubResolver of 192.0.2.53, 192.0.2.54>")


class UDPClock(Clock):
    """
    A clock, and sockets that nobody hears.

    :ivar servers: whom they were connected to, in order.
    :ivar open: how many are open.
    """

    def __init__(self) -> None:
        super().__init__()
        self.servers: list[str] = []
        self.sent: list[bytes] = []
        self.waiting: list[bytes] = []
        self.open = 0
        self.broken = False
        self.reader: Any = None

    def datagram_socket(self, family: int) -> Any:
        """In place of the kernel's."""
        if self.broken:
            raise OSError(errno.EMFILE, "Too many open files")
        self.sent = []
        self.open += 1
        return self

    def addReader(self, reader: Any) -> None:
        self.reader = reader

    def removeReader(self, reader: Any) -> None:
        self.reader = None

    def connect(self, sockaddr: tuple[str, int]) -> None:
        self.servers.append(sockaddr[0])

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, size: int) -> bytes:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.pop(0)

    def close(self) -> None:
        self.open -= 1

    def answer(self, says: Says) -> None:
        """Answer what was asked last."""
        answers = [answer_to(question, says) for question in self.sent]
        self.waiting = [data for data in answers if data is not None]
        self.reader.doRead()
