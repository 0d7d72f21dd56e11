# -*- test-case-name: tests.testing.test_peers -*-
"""
Scripted peers on real sockets: a case reads as a conversation.

::

    with ScriptedListener() as upstream:
        ...  # start a forwarder to upstream.address, listening on `address`
        client = Dialer(address, "send 1MiB", "end", 'expect "thanks"', "expect end")
        server = upstream.peer("read to end", 'send "thanks"', "end")
        converse(client, server)

Each peer runs in its own thread with blocking steps, independent of any reactor. `converse` starts them,
waits, and raises `ConversationFailed` with the steps of both sides if one failed. A peer reads all the time
unless its script stops it, and compares each byte with the byte that the other peer sent at that position. So
a passed test means that the received bytes are an exact prefix of the sent ones. Afterwards ``client.sent``,
``server.received`` and ``server.incoming`` have the counts and the end.

The steps are in `portfwd.testing.script`. Every step has a deadline, and none sleeps for a fixed time. Call
`converse` in a thread (``twisted.internet.threads.deferToThread``) if the tested code runs in the reactor of
this process. TLS and datagrams are not supported.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from portfwd.testing import script
from portfwd.testing.addresses import address_of, family_of, set_buffers, sockaddr_of
from portfwd.testing.data import Source, WrongBytes
from portfwd.testing.peer import (
    LOOK_AROUND,
    STEP_DEADLINE,
    Abandoned,
    Incoming,
    Marks,
    Peer,
    StepFailed,
)
from portfwd.values import Address, InetAddress, UnixAddress


class ConversationFailed(AssertionError):
    """
    A conversation failed.

    The text has the scripts of all peers and the progress of each.
    """


class Dialer(Peer):
    """
    A peer that connects.

    :param address: the address to connect to; IPv4, IPv6 or unix.
    :param source: the local address; its port may be 0.
    """

    def __init__(
        self,
        address: Address,
        *steps: script.Step | str,
        name: str = "client",
        seed: int = 1,
        source: InetAddress | None = None,
        receives: Source | None = None,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
        after: str | None = None,
    ) -> None:
        super().__init__(
            steps,
            name=name,
            seed=seed,
            receives=receives,
            receive_buffer=receive_buffer,
            send_buffer=send_buffer,
            after=after,
        )
        self.address = address
        self._source = source

    def _open(self, until: float) -> socket.socket:
        connection = socket.socket(family_of(self.address), socket.SOCK_STREAM)
        try:
            # The window is announced in the handshake, so buffers are set before it.
            set_buffers(connection, *self._buffers)
            if self._source is not None:
                connection.bind(sockaddr_of(self._source))
            connection.settimeout(max(0.001, until - time.monotonic()))
            connection.connect(sockaddr_of(self.address))
        except ConnectionResetError:
            # Accepted and then reset before this call returned. Bytes before the reset are still read.
            self._broken = True
        except OSError as error:
            connection.close()
            raise StepFailed(f"cannot connect to {self.address}: {error}") from error
        return connection


class _Accepted(Peer):
    """A peer that accepts a connection."""

    def __init__(
        self,
        listener: ScriptedListener,
        steps: Sequence[script.Step | str],
        *,
        name: str,
        seed: int,
        after: str | None,
        skip: int,
    ) -> None:
        super().__init__(steps, name=name, seed=seed, after=after)
        self._listener = listener
        self._skip = skip

    def _open(self, until: float) -> socket.socket:
        for _ in range(self._skip):
            self._accept(until).close()
        return self._accept(until)

    def _accept(self, until: float) -> socket.socket:
        while (wait := until - time.monotonic()) > 0:
            if self._marks.abandoned:
                raise Abandoned
            connection = self._listener.accept(min(wait, LOOK_AROUND))
            if connection is not None:
                return connection
        raise StepFailed("nobody connected in time")


class ScriptedListener:
    """
    A listening socket, whose connections perform scripts.

    :param address: IPv4, IPv6 or unix; port 0 selects a free one.
    :param backlog: argument of ``listen``; None: do not listen, so that connections are refused until
        `listen` is called.
    :param receive_buffer: ``SO_RCVBUF`` of accepted connections, bytes.
    :param send_buffer: ``SO_SNDBUF`` of accepted connections, bytes.

    :ivar address: the bound address, with the real port.
    """

    def __init__(
        self,
        address: Address = InetAddress("127.0.0.1", 0),  # noqa: B008 - a frozen value
        *,
        backlog: int | None = 512,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
    ) -> None:
        self._socket = socket.socket(family_of(address), socket.SOCK_STREAM)
        try:
            if isinstance(address, InetAddress):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family_of(address) == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Accepted sockets inherit them, and the window is announced in the handshake.
            set_buffers(self._socket, receive_buffer, send_buffer)
            self._socket.bind(sockaddr_of(address))
            if backlog is not None:
                self.listen(backlog)
        except BaseException:
            self._socket.close()
            raise
        self.address = address_of(self._socket.getsockname()) or address

    def __repr__(self) -> str:
        return f"<ScriptedListener {self.address}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def listen(self, backlog: int = 512) -> None:
        """Start to listen, or change the length of the accept queue."""
        self._socket.listen(backlog)

    def peer(
        self,
        *steps: script.Step | str,
        name: str = "upstream",
        seed: int = 2,
        after: str | None = None,
        skip: int = 0,
    ) -> Peer:
        """
        Make a peer that accepts one connection and performs `steps`.

        :param after: accept when another peer has set this mark.
        :param skip: number of connections to accept and close first: those that filled the accept queue.
        """
        return _Accepted(self, steps, name=name, seed=seed, after=after, skip=skip)

    def fill_queue(self) -> list[socket.socket]:
        """
        Connect until the accept queue is full, so that the next client gets no answer.

        :returns: the connections, which the caller closes. Their number is the ``skip`` of `peer`.
        """
        connections: list[socket.socket] = []
        while True:
            connection = socket.socket(self._socket.family, socket.SOCK_STREAM)
            connection.settimeout(script.BLOCKED_AFTER)
            try:
                connection.connect(self._socket.getsockname())
            except OSError:
                # No answer, or a unix socket's EAGAIN: full.
                connection.close()
                return connections
            connections.append(connection)

    def accept(self, seconds: float) -> socket.socket | None:
        """Accept a connection, non-blocking; None if there was none within `seconds`."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return None
        self._socket.setblocking(False)
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            # Another peer of this listener has accepted it.
            return None
        return connection

    def close(self) -> None:
        """Stop listening; a unix socket's file is removed."""
        self._socket.close()
        if isinstance(self.address, UnixAddress) and self.address.path[:1] not in ("", "@"):
            try:
                os.unlink(self.address.path)
            except FileNotFoundError:
                # It was removed already.
                return


def converse(*peers: Peer, step_deadline: float = STEP_DEADLINE) -> None:
    """
    Run the scripts of `peers`, each in a thread, until all are complete; then close their sockets.

    The first two peers compare what they read with what the other one sends, and so do the next two, unless
    a peer has a source of its own (``receives`` of `Peer`). A single peer keeps what it reads.

    :param step_deadline: seconds for a step that has no ``within``.
    :raises ConversationFailed: a step of a peer failed. The text has the scripts of all peers.
    """
    for one, other in zip(peers[::2], peers[1::2], strict=False):
        for reader, writer in ((one, other), (other, one)):
            if reader.received.source is None:
                reader.received.source = writer.sent
    marks = Marks()
    threads = [
        threading.Thread(target=peer.run, args=(marks, step_deadline), name=peer.name, daemon=True)
        for peer in peers
    ]
    for thread in threads:
        thread.start()
    # Steps have deadlines, so every thread ends.
    for thread in threads:
        thread.join()
    for peer in peers:
        peer.close()
    failures = [peer.failure for peer in peers if peer.failure is not None]
    to_blame = [failure for failure in failures if not isinstance(failure, Abandoned)]
    if to_blame:
        raise ConversationFailed("\n" + "\n".join(peer.report() for peer in peers)) from to_blame[0]


__all__ = [
    "STEP_DEADLINE",
    "ConversationFailed",
    "Dialer",
    "Incoming",
    "Marks",
    "Peer",
    "ScriptedListener",
    "StepFailed",
    "WrongBytes",
    "address_of",
    "converse",
    "family_of",
    "set_buffers",
    "sockaddr_of",
]
