# -*- test-case-name: tests.upstreams.test_endpoint_attempt -*-
"""
One attempt to connect a Twisted endpoint, whose result is a stream.

See `portfwd.upstreams.connect` for the interface of attempts and their owners.
"""

from __future__ import annotations

from twisted.internet import error
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import (
    ConnectFailed,
    ConnectRefused,
    ConnectTimedOut,
    DialError,
    NameNotResolved,
    OutOfResources,
)
from portfwd.kernel.failures import log_failure
from portfwd.kernel.socket_addresses import from_twisted_address
from portfwd.kernel.sockets import EXHAUSTED
from portfwd.rules.model import Options
from portfwd.streams.transports.transport import TransportStream
from portfwd.upstreams.connect import AttemptOwner
from portfwd.values import Address


class _OneProtocol(Factory):
    """
    Returns a given protocol.

    :ivar made: the protocol; None to have the connection closed.
    """

    noisy = False

    def __init__(self, made: IProtocol) -> None:
        self.made: IProtocol | None = made

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:  # type: ignore[override]
        """See the class."""
        return self.made


class EndpointAttempt:
    """A Twisted endpoint's connect; its result is a `TransportStream`."""

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        name: str,
        options: Options,
        timeout: float,
        owner: AttemptOwner,
        stream: TransportStream | None = None,
    ) -> None:
        """
        :param name: the endpoint as written in the file, for messages.
        :param timeout: seconds.
        :param stream: the stream to connect; None for a plain one.
        """
        self.address: Address | None = None
        self.seen: int | None = None
        self._clock = clock
        self._endpoint = endpoint
        self._name = name
        self._options = options
        self._timeout = timeout
        self._owner = owner
        self._connecting: Deferred[IProtocol] | None = None
        self._is_over = False
        self._timer: IDelayedCall | None = None
        self._stream = TransportStream(clock, options.buffer) if stream is None else stream
        self._factory = _OneProtocol(self._stream)
        self._log = Logger()

    def start(self) -> None:
        """Connect the endpoint."""
        self._timer = self._clock.callLater(self._timeout, self._timed_out)
        # Code of another library may raise instead of returning a failed Deferred.
        self._connecting = connecting = maybeDeferred(self._endpoint.connect, self._factory)
        connecting.addCallbacks(self._connected, self._failed)
        connecting.addErrback(self._broke)

    def _over(self) -> None:
        self._connecting = None
        self._is_over = True
        # If the endpoint continues after it was cancelled, it gets no protocol and closes its connection.
        # This also breaks a cycle: Twisted's factories and connectors refer to each other.
        self._factory.made = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _connected(self, _protocol: object) -> None:
        stream = self._stream
        if self._is_over:  # the endpoint succeeded although it was cancelled
            stream.abort()
            return
        self._over()
        if stream.transport is not None:
            self.address = from_twisted_address(stream.transport.getPeer()) or self.address
            stream.local = from_twisted_address(stream.transport.getHost())
        stream.address = self.address
        self._owner.connected(self, stream)

    def _failed(self, failure: Failure) -> None:
        # Cancelled endpoints fail with various errors. These are not reported.
        if not self._is_over:
            self._over()
            self._owner.failed(self, self._translate(failure))

    def _broke(self, failure: Failure) -> None:
        # `_connected` raised an exception: close the stream.
        log_failure(self._log, "connecting {name} failed", failure, name=self._name)
        self._stream.abort()

    def _translate(self, failure: Failure) -> DialError:
        problem = failure.value
        text = f"{self._name}: {failure.getErrorMessage()}"
        if isinstance(problem, DialError):
            return problem
        if isinstance(problem, (error.DNSLookupError, error.UnknownHostError)):
            return NameNotResolved(text)
        if isinstance(problem, error.ConnectionRefusedError):
            return ConnectRefused(text)
        if isinstance(problem, (error.TimeoutError, error.TCPTimedOutError)):
            return ConnectTimedOut(text)
        if isinstance(problem, error.ConnectError) and problem.osError in EXHAUSTED:
            return OutOfResources(text)
        return ConnectFailed(text)

    def _timed_out(self) -> None:
        self._stop()
        self._owner.failed(self, ConnectTimedOut(f"{self._name}: no answer within {self._timeout:g} s"))

    def _stop(self) -> None:
        connecting = self._connecting
        self._over()
        if connecting is not None:
            connecting.cancel()

    def cancel(self) -> None:
        """Stop the attempt."""
        self._stop()
