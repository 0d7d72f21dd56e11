"""Authorise clients by HTTP, and remember the answers."""

from collections import OrderedDict
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.web.client import Agent, readBody

from portfwd.filters import (
    DONE,
    TO_UPSTREAM,
    Await,
    Close,
    Connection,
    Filter,
    FilterFactory,
    InetAddress,
    Plugin,
    Services,
    Verdict,
)
from portfwd.filters.options import duration, option, text


@frozen
class Options:
    """What a rule says."""

    url: str = option(text, default="http://127.0.0.1:8099/", help="The client's address is put behind it.")
    keep: float = option(duration, default=60.0, help="How long an answer counts.")


class Authorise(FilterFactory):
    """Asks the service once for each address, however many of its clients wait for the answer."""

    directions = frozenset({TO_UPSTREAM})
    routes = True  # nothing is dialled before the answer
    most = 10_000  # answers that are remembered

    def __init__(self, options: Options) -> None:
        self.options = options
        self.answers: OrderedDict[str, tuple[float, Deferred[bool]]] = OrderedDict()

    def start(self, services: Services) -> None:
        """The rule begins to work."""
        self.clock = services.clock
        self.agent: Any = Agent(services.reactor, connectTimeout=2)

    def build(self, connection: Connection) -> Filter:
        """A client was accepted."""
        return Ask(self)

    def answer(self, host: str) -> Deferred[bool]:
        """Whether `host` may come in: the answer that is there, or on its way."""
        now = self.clock.seconds()
        until, answer = self.answers.get(host, (now, None))
        if answer is None or until <= now:
            answer = Deferred.fromCoroutine(self.ask(host))
            self.answers[host] = (now + self.options.keep, answer)
            self.answers.move_to_end(host)
            if len(self.answers) > self.most:
                self.answers.popitem(last=False)
            answer.addErrback(self.forget, host)
        return answer

    async def ask(self, host: str) -> bool:
        """Ask the service."""
        response = await self.agent.request(b"GET", f"{self.options.url}{host}".encode())
        await readBody(response)  # the connection stays open until then
        return bool(response.code == 200)

    def forget(self, failure: Any, host: str) -> Any:
        """A service that could not be asked is asked again by the next client."""
        self.answers.pop(host, None)
        return failure


class Ask(Filter):
    """One client."""

    def __init__(self, factory: Authorise) -> None:
        self.factory = factory

    def opened(self, connection: Connection) -> Verdict:
        """A client was accepted."""
        source = connection.source
        return (
            Await(self.factory.answer(source.host))
            if isinstance(source, InetAddress)
            else Close("no address")
        )

    def resumed(self, result: object) -> Verdict:
        """The service has answered."""
        return DONE if result else Close("not authorised")

    def failed(self, error: BaseException) -> Verdict:
        """The service cannot be asked: nobody comes in."""
        return Close(f"cannot ask: {error}")


PLUGIN = Plugin("authorise", "Asks an HTTP service.", Options, lambda options, routes: Authorise(options))
