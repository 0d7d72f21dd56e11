# -*- test-case-name: tests.service.test_build -*-
"""Twisted's endpoints for listeners, where sockets cannot be our own."""

from __future__ import annotations

import socket
import sys

from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, UNIXServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint

from portfwd.kernel.reactor import Reactor
from portfwd.listen.unix_files import DEFAULT_MODE
from portfwd.rules.model import Kind, ListenSpec
from portfwd.values import UnixAddress


def portable_endpoints(reactor: Reactor, spec: ListenSpec, port: int) -> list[IStreamServerEndpoint]:
    """What listens for `spec` on `port`."""
    backlog = spec.options.backlog or socket.SOMAXCONN
    if spec.kind is Kind.UNIX:
        mode = DEFAULT_MODE if spec.options.mode is None else spec.options.mode
        name = UnixAddress(spec.path).sockaddr
        return [UNIXServerEndpoint(reactor, name, backlog, mode)]
    if spec.host:
        kind = TCP6ServerEndpoint if ":" in spec.host else TCP4ServerEndpoint
        return [kind(reactor, port, backlog, spec.host)]
    # Both families: one dual-stack socket, which "::" is by itself everywhere but on Windows.
    everywhere: list[IStreamServerEndpoint] = []
    if socket.has_ipv6:
        everywhere.append(TCP6ServerEndpoint(reactor, port, backlog, "::"))
    if sys.platform == "win32" or not socket.has_ipv6:
        everywhere.append(TCP4ServerEndpoint(reactor, port, backlog))
    return everywhere
