"""A Twisted application, for `twistd -ny`, that forwards with endpoints and a filter of its own."""

from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint

import portfwd
from portfwd.filters import DONE, TO_UPSTREAM, Close, Direction, Filter, SessionSummary, Verdict


class NoShouting(Filter):
    """Closes connections whose client writes in capitals only."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """Look at what the client writes; the upstream's bytes need no look."""
        if direction is TO_UPSTREAM and data.isupper():
            return Close("capitals", reply=b"not so loud\r\n")
        return None if direction is TO_UPSTREAM else DONE


def closed(session: SessionSummary) -> None:
    """Print what a session did."""
    print(session.client, session.to_upstream.bytes, session.reason)


application = Application("quiet")
service = portfwd.forward(
    reactor,
    listen=TCP4ServerEndpoint(reactor, 8094, interface="127.0.0.1"),
    to=["127.0.0.1:8093", "tls:backup.example:443"],
    filters=[NoShouting],
    clauses=["allow 127.0.0.0/8"],
    name="quiet",
    idle="5m",
    max_conns=100,
)
service.subscribe(closed=closed)
service.setServiceParent(application)
