# -*- test-case-name: tests.testing.test_peers -*-
"""
Scripted peers on real sockets: a case reads as a conversation.

::

    with Listener() as upstream:
        ...  # start a forwarder to upstream.address, listening on `address`
        client = Dialer(address, "send 1MiB", "end", 'expect "thanks"', "expect end")
        server = upstream.peer("read to end", 'send "thanks"', "end")
        converse(client, server)

Each peer runs in a thread of its own with blocking steps, independent of any
reactor; `converse` starts them, waits, and raises `ConversationFailed` with
both sides' steps if one of them went wrong. A peer reads all the time unless
its script says otherwise, and every byte is compared on arrival with what the
other peer sent at that position: passing means that the bytes delivered are an
exact prefix of the bytes sent. Afterwards ``client.sent``, ``server.received``
and ``server.incoming`` have the counts and the end.

The steps are in `portfwd.testing.script`. Every step has a deadline; none of
them sleeps and hopes. Call `converse` in a thread
(``twisted.internet.threads.deferToThread``) if what is tested runs in this
process's reactor. Peers refuse to do TLS and datagrams.
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
    A conversation went wrong.

    The text is every peer's script with how far each came, so that a report shows both sides.
    """


class Dialer(Peer):
    """
    A peer that connects.

    :param address: where to; IPv4, IPv6 or unix.
    :param source: address to connect from; its port may be 0.
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
            # The window is announced in the handshake: buffers are set before it.
            set_buffers(connection, *self._buffers)
            if self._source is not None:
                connection.bind(sockaddr_of(self._source))
            connection.settimeout(max(0.001, until - time.monotonic()))
            connection.connect(sockaddr_of(self.address))
        except ConnectionResetError:
            # Accepted, then reset before this call looked: connected. What came before is still to be read.
            self._broken = True
        except OSError as error:
            connection.close()
            raise StepFailed(f"cannot connect to {self.address}: {error}") from error
        return connection


class _Accepted(Peer):
    """A peer that is connected to."""

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
    A listening socket, whose connections play scripts.

    :param address: IPv4, IPv6 or unix; port 0 takes a free one.
    :param backlog: length of the accept queue, as ``listen`` takes it; None: do not listen yet,
        so that connecting is refused until `listen` is called.
    :param receive_buffer: ``SO_RCVBUF`` of what is accepted.
    :param send_buffer: ``SO_SNDBUF`` of what is accepted.

    :ivar address: what it is bound to, with the real port.
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
        A peer that accepts one connection here and performs `steps`.

        :param after: accept only once another peer has said so.
        :param skip: accept and close so many connections first: those that filled the accept queue.
        """
        return _Accepted(self, steps, name=name, seed=seed, after=after, skip=skip)

    def fill_queue(self) -> list[socket.socket]:
        """
        Connect until the kernel takes no more: who connects next gets no answer, as from a black hole.

        :returns: the connections, each to be closed by the caller; `peer`'s ``skip`` is their number.
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
        """One connection, non-blocking, or None if none came within `seconds`."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return None
        self._socket.setblocking(False)
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            # Another peer of this listener was quicker.
            return None
        return connection

    def close(self) -> None:
        """Stop listening; a unix socket's file is removed."""
        self._socket.close()
        if isinstance(self.address, UnixAddress) and self.address.path[:1] not in ("", "@"):
            try:
                os.unlink(self.address.path)
            except FileNotFoundError:
                # Somebody tidied up before us: it is gone, which is all that is wanted.
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
