"""A filter that asks an HTTP service whether a client may come in."""

from twisted.internet import reactor
from twisted.web.client import Agent

from portfwd.filters import DONE, TO_UPSTREAM, Await, Close, Filter


class Authorise(Filter):
    """Lets a client in if a service answers 200 for its address."""

    directions = frozenset({TO_UPSTREAM})
    routes = True  # nothing is dialled before the answer

    def __init__(self, url: str = "http://127.0.0.1:8099/"):
        """:param url: the service; the client's address is put behind it."""
        self.url = url

    def opened(self, connection):
        """A client was accepted."""
        return Await(self.ask(connection.source.host))

    async def ask(self, host):
        """Whether the service answers 200."""
        agent = Agent(reactor, connectTimeout=2)
        response = await agent.request(b"GET", f"{self.url}{host}".encode())
        return response.code == 200

    def resumed(self, allowed):
        """The service has answered."""
        return DONE if allowed else Close("not authorised")

    def failed(self, error):
        """The service did not answer, or not in a way that can be understood."""
        return Close(f"cannot ask: {error}")
