"""A filter that asks an HTTP service whether a client may come in."""

from typing import Any

from twisted.internet import reactor
from twisted.web.client import Agent, readBody

from portfwd.filters import DONE, TO_UPSTREAM, Await, Close, Connection, Filter, InetAddress, Verdict


class Authorise(Filter):
    """Lets a client in if a service answers 200 for its address."""

    directions = frozenset({TO_UPSTREAM})
    routes = True  # nothing is dialled before the answer

    def __init__(self, url: str = "http://127.0.0.1:8099/") -> None:
        """:param url: the service; the client's address is put behind it."""
        self.url = url

    def opened(self, connection: Connection) -> Verdict:
        """A client was accepted."""
        source = connection.source
        if not isinstance(source, InetAddress):
            return Close("no address")
        return Await(self.ask(source.host))

    async def ask(self, host: str) -> bool:
        """Whether the service answers 200."""
        agent = Agent(reactor, connectTimeout=2)
        response: Any = await agent.request(b"GET", f"{self.url}{host}".encode())
        await readBody(response)  # the connection stays open until then
        return bool(response.code == 200)

    def resumed(self, allowed: object) -> Verdict:
        """The service has answered."""
        return DONE if allowed else Close("not authorised")

    def failed(self, error: BaseException) -> Verdict:
        """The service did not answer, or not in a way that can be understood."""
        return Close(f"cannot ask: {error}")
