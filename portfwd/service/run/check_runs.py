# -*- test-case-name: tests.service.run.test_checking -*-
"""
One check of one target: its connection or datagram, and the conversation that judges it.

Each run is started once and gives one result, unless it is cancelled: a verdict; `NoVerdict` if there was an
answer that decides nothing; or None if this process had no resources for the check. A check that cannot be
made for another reason, or whose code raises an exception, has failed. The caller limits the time.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, cast

from attrs import evolve
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.errors import DialError, OutOfResources
from portfwd.relay.context import RelayContext
from portfwd.relay.destination import Destination
from portfwd.relay.target_dial import DialSettings, TargetDial
from portfwd.service.build.checks import ReadyCheck
from portfwd.service.daemon.reading import in_thread
from portfwd.service.run.check_results import Done, NoVerdict, RaisedVerdict, Run
from portfwd.service.run.command_run import CommandRun
from portfwd.service.tls.targets import ClientSide
from portfwd.streams.stream import Loss, Stream, Watched
from portfwd.upstreams.checks.api import CheckCarrier, CheckReply, Subject
from portfwd.upstreams.checks.bounded import BoundedConversation
from portfwd.upstreams.connect import dial_error
from portfwd.upstreams.datagrams import connect_datagrams
from portfwd.upstreams.health import Verdict
from portfwd.values import Address, InetAddress, Side, is_literal

#: Seconds that a server gets to close after the verdict, before the connection is reset.
LAST_WORD: Final = 1.0
#: Datagrams that are read in one turn of the reactor.
DATAGRAMS_IN_A_TURN: Final = 16
#: Bytes of one datagram.
MAX_DATAGRAM: Final = 65535


def check_destination(
    destination: Destination, ready: ReadyCheck, context: RelayContext, rules: str = "-"
) -> Destination:
    """
    The destination of a check of `destination`: with its own port, time limit and TLS.

    :param rules: names of the rules that have the target, for the log.
    :raises OSError, ValueError: a file of the target's TLS options cannot be used.
    """
    carrier, timing = ready.check.carrier, ready.timing
    options = evolve(destination.options, connect_timeout=timing.timeout, max_conns_per_target=None)
    address, tls = destination.address, destination.tls
    if timing.port is not None and isinstance(address, InetAddress):
        address = InetAddress(address.host, timing.port)
    if carrier is CheckCarrier.PLAIN:
        tls = None
    elif carrier is CheckCarrier.TLS and tls is None and isinstance(address, InetAddress):
        name = getattr(ready.check, "server_name", "") or None
        own = evolve(options, verify=getattr(ready.check, "verify", True), server_name=name)
        tls = ClientSide(
            address.host,
            own,
            seconds=context.reactor.seconds,
            run=partial(in_thread, context.reactor),
            label=f"{rules}: target {destination.label}: check {ready.name}",
        )
    endpoint = destination.endpoint if timing.port is None else None
    label = destination.label if timing.port is None or address is None else str(address)
    return Destination(label, options, address=address, endpoint=endpoint, tls=tls)


def subject_of(destination: Destination, token: str) -> Subject:
    """The description of a target for a check."""
    address = destination.address
    if isinstance(address, InetAddress):
        return Subject(destination.label, address.host, address.port, token)
    return Subject(destination.label, token=token)


def plain_address(ready: ReadyCheck, destination: Destination, context: RelayContext) -> InetAddress | None:
    """The address of a check that only connects; None for other checks."""
    address = destination.address
    plain = destination.tls is None and destination.endpoint is None and context.sockets is not None
    streams = ready.check.carrier in (CheckCarrier.STREAM, CheckCarrier.PLAIN)
    if not (ready.check.only_connects and streams and plain and isinstance(address, InetAddress)):
        return None
    return address if is_literal(address.host) else None


def make_run(ready: ReadyCheck, destination: Destination, context: RelayContext, done: Done) -> Run:
    """One check of `destination`, which `check_destination` has made; of those without `plain_address`."""
    check, subject = ready.check, subject_of(destination, secrets.token_hex(12))
    if check.carrier is CheckCarrier.COMMAND:
        return CommandRun(ready, subject, context, done)
    try:
        conversation = BoundedConversation(check, check.begin(subject))
    except Exception:
        return FailedRun(RaisedVerdict.of(Failure()), done)
    if check.carrier is CheckCarrier.DATAGRAM:
        return DatagramRun(conversation, destination, context, done)
    return StreamRun(conversation, destination, context, done)


def verdict_of(problem: DialError) -> Verdict | None:
    """The verdict for an unreachable target; None for a problem of this process."""
    return None if isinstance(problem, OutOfResources) else Verdict(False, str(problem))


class FailedRun:
    """A check that has failed before it was started."""

    judged = True

    def __init__(self, verdict: Verdict, done: Done) -> None:
        self._verdict = verdict
        self._done = done

    def start(self) -> None:
        """See `Run`."""
        self._done(self._verdict)

    def cancel(self) -> None:
        """See `Run`."""


def _asked(ask: Callable[[], CheckReply]) -> CheckReply:
    """Return the reply of a conversation; a failed check if it raises."""
    try:
        return ask()
    except Exception:
        return CheckReply(verdict=RaisedVerdict.of(Failure()))


def _result(reply: CheckReply) -> Verdict | NoVerdict | None:
    return NoVerdict(reply.cause) if reply.silent else reply.verdict


class StreamRun:
    """A conversation over a stream, dialled as sessions dial."""

    def __init__(
        self, conversation: BoundedConversation, destination: Destination, context: RelayContext, done: Done
    ) -> None:
        self._conversation = conversation
        self._context = context
        self._done = done
        self._is_done = self.judged = False
        self._problem: DialError | None = None
        self._stream: Watched | None = None
        self._last_word: IDelayedCall | None = None
        self._dial: TargetDial | None = TargetDial(DialSettings(context, context.streams), destination, self)

    def __repr__(self) -> str:
        return f"<StreamRun {'done' if self._is_done else 'under way'}>"

    def start(self) -> None:
        """See `Run`."""
        if self._dial is not None:
            self._dial.start()

    def cancel(self) -> None:
        """See `Run`."""
        self._is_done = True
        dial, self._dial = self._dial, None
        if dial is not None:
            dial.cancel()
        if self._stream is not None:
            self._stream.abort()

    def _finish(self, verdict: Verdict | NoVerdict | None) -> None:
        if not self._is_done:
            self._is_done = True
            self._done(verdict)

    # Events of the dial

    def attempt_failed(self, target: TargetDial, address: Address | None, problem: DialError) -> None:
        """See `portfwd.relay.target_dial.TargetOwner`."""
        self._problem = problem

    def target_failed(self, target: TargetDial) -> None:
        """See `portfwd.relay.target_dial.TargetOwner`."""
        self._dial = None
        problem = self._problem
        self._finish(Verdict(False, "it cannot be reached") if problem is None else verdict_of(problem))

    def target_reached(self, target: TargetDial, stream: Stream) -> None:
        """See `portfwd.relay.target_dial.TargetOwner`."""
        self._dial = None
        stream.side = Side.UPSTREAM
        self._stream = watched = cast(Watched, stream)
        watched.watch(self)
        watched.own(self)
        if not self._is_done:
            self._obey(self._conversation.opened)
        if not self._is_done:
            watched.start()

    def broke(self, failure: Failure) -> None:
        """See `portfwd.relay.target_dial.TargetOwner`."""
        self.cancel()
        self._done(RaisedVerdict.of(failure))

    # Events of the stream

    def _obey(self, ask: Callable[[], CheckReply]) -> None:
        """Perform the reply of the conversation. If it raises, the check has failed."""
        stream = self._stream
        if self._is_done or stream is None:
            return
        reply = _asked(ask)
        if reply.send:
            stream.write(reply.send)
        if reply.verdict is not None or reply.silent:
            self.judged = True
            self._finish(_result(reply))
            self._last_word = self._context.reactor.callLater(LAST_WORD, stream.abort)
            stream.close()

    def shown(self, stream: Stream, data: bytes) -> None:
        """Handle bytes of the target. Reset it if they exceed the limit, after the verdict too."""
        if self._is_done:
            self._conversation.count(data)
        self._obey(partial(self._conversation.received, data))
        if self._conversation.is_exceeded:
            stream.abort()

    def passed(self, stream: Stream, count: int) -> None:
        """Do nothing: no bytes pass without this object."""

    def ended(self, stream: Stream) -> None:
        """The target has ended."""
        self._obey(self._conversation.ended)

    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """The connection was closed."""
        self._stream = None
        if self._last_word is not None and self._last_word.active():
            self._last_word.cancel()
        if not self._is_done:
            reply = _asked(self._conversation.ended) if how is Loss.ORDERLY else CheckReply()
            self.judged = reply.verdict is not None
            self._finish(_result(reply) or Verdict(False, detail or "the connection was reset"))

    def began(self, stream: Stream) -> None:
        """Clients' TLS only."""

    def announced(self, stream: Stream, client: Address, local: Address | None) -> None:
        """Clients' TLS only."""

    def opened(self, stream: Stream) -> None:
        """Do nothing: the stream is open already."""

    def end_sent(self, stream: Stream) -> None:
        """Do nothing: `lost` follows."""

    def writing_failed(self, stream: Stream, detail: str) -> None:
        """Do nothing: the end or `lost` follows."""

    def thrown_away(self, stream: Stream, count: int) -> None:
        """Do nothing: nothing is discarded."""


@implementer(IReadDescriptor)
class DatagramRun:
    """A conversation over UDP."""

    def __init__(
        self, conversation: BoundedConversation, destination: Destination, context: RelayContext, done: Done
    ) -> None:
        self._conversation = conversation
        self._destination = destination
        self._context = context
        self._done = done
        self._socket: socket.socket | None = None
        self._is_done = self.judged = False
        self._asks = False

    def __repr__(self) -> str:
        return f"<DatagramRun {'done' if self._is_done else 'under way'}>"

    def start(self) -> None:
        """See `Run`."""
        destination = self._destination
        address = destination.address
        if isinstance(address, InetAddress) and not is_literal(address.host):
            self._asks = True
            refused = self._context.names.ask(
                address.host, destination.options.dns_refresh, self, self._resolved
            )
            if refused:
                self._finish(Verdict(False, f"{address.host}: {refused}"))
        elif address is None:
            self._finish(Verdict(False, "an endpoint has no address for datagrams"))
        else:
            self._ask(address)

    def _resolved(self, hosts: Sequence[str]) -> None:
        self._asks = False
        address = cast(InetAddress, self._destination.address)
        if not hosts:
            self._finish(Verdict(False, f"{address.host}: no address is known"))
        elif not self._is_done:
            self._ask(InetAddress(hosts[0], address.port))

    def _ask(self, address: Address) -> None:
        try:
            self._socket = connect_datagrams(address, self._destination.options)
            self._context.reactor.addReader(self)
            self._obey(self._conversation.opened)
        except OSError as problem:
            self._finish(verdict_of(dial_error(problem, address)))

    def _obey(self, ask: Callable[[], CheckReply]) -> None:
        reply = _asked(ask)
        if reply.send and self._socket is not None:
            self._socket.send(reply.send)
        if reply.verdict is not None or reply.silent:
            self.judged = True
            self._finish(_result(reply))

    def doRead(self) -> None:
        """Handle some datagrams, or an error."""
        for _ in range(DATAGRAMS_IN_A_TURN):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(MAX_DATAGRAM)
                self._obey(partial(self._conversation.received, data))
            except BlockingIOError:
                return
            except OSError as problem:
                self._finish(verdict_of(dial_error(problem, self._destination.label)))

    def fileno(self) -> int:
        """The socket's descriptor."""
        return -1 if self._socket is None else self._socket.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has dropped the socket. The time limit ends the check."""
        self.doRead()

    def logPrefix(self) -> str:
        """The prefix of log lines."""
        return "portfwd"

    def cancel(self) -> None:
        """See `Run`."""
        self._is_done = True
        if self._asks:
            self._context.names.forget(cast(InetAddress, self._destination.address).host, self)
        sock = self._socket
        if sock is not None:
            self._context.reactor.removeReader(self)
            self._socket = None
            sock.close()

    def _finish(self, verdict: Verdict | NoVerdict | None) -> None:
        if not self._is_done:
            self.cancel()
            self._done(verdict)
