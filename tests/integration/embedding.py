"""A program with forwarders inside, under the reactor that its argument names; prints what came through."""

import sys
from typing import Any

from twisted.application.reactors import installReactor
from twisted.application.service import MultiService

installReactor(sys.argv[1])

from twisted.internet import reactor as installed  # noqa: E402 - the one that was chosen
from twisted.internet.defer import Deferred, ensureDeferred  # noqa: E402
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol  # noqa: E402
from twisted.internet.protocol import Factory, Protocol, connectionDone  # noqa: E402
from twisted.python.failure import Failure  # noqa: E402

import portfwd  # noqa: E402
from portfwd.filters import TO_UPSTREAM, Direction, Filter, Verdict  # noqa: E402

reactor: Any = installed
CHUNK = bytes(1 << 20)


class Loud(Filter):
    """Upper case for the upstream."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        return data.upper() if direction is TO_UPSTREAM else None


class Echo(Protocol):
    """Sends back what comes."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]


class Client(Protocol):
    """Sends `sent` and waits for as many bytes."""

    def __init__(self, sent: bytes) -> None:
        self.sent, self.received, self.done = sent, bytearray(), Deferred[bytes]()

    def connectionMade(self) -> None:
        self.transport.write(self.sent)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if len(self.received) == len(self.sent):
            self.transport.loseConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(bytes(self.received))


def say(*values: object) -> None:
    """One line for the test."""
    sys.stdout.write(" ".join(map(str, values)) + "\n")


async def run() -> None:
    """Forward by text, by objects, and with a filter; then stop, and look what is left."""
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Echo))
    number = port.getHost().port
    parent = MultiService()
    parent.startService()
    made = [
        portfwd.forward(reactor, f"127.0.0.1:0 -> 127.0.0.1:{number}"),
        portfwd.forward(reactor, listen="127.0.0.1:0", to=f"127.0.0.1:{number}", filters=[Loud]),
        portfwd.forward(
            reactor,
            listen=TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"),
            to=TCP4ClientEndpoint(reactor, "127.0.0.1", number),
        ),
    ]
    for service in made:
        service.setServiceParent(parent)
        ((address,),) = service.addresses.values()
        for sent in (b"hello", CHUNK):
            client = Client(sent)
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", int(address.rpartition(":")[2]))
            await connectProtocol(endpoint, client)
            received = await client.done
            say(received.decode() if len(received) < len(CHUNK) else received == CHUNK)
    await parent.stopService()
    await port.stopListening()
    say("calls:", len(made[0].clock.getDelayedCalls()))
    say("readers:", sum("Waker" not in repr(one) for one in reactor.getReaders()))


def main() -> None:
    """Run, then end the reactor."""
    ensureDeferred(run()).addErrback(lambda failure: failure.printTraceback(sys.stdout)).addBoth(
        lambda _: reactor.stop()
    )


reactor.callWhenRunning(main)
reactor.run()
