# -*- test-case-name: tests.service.operators.test_shells -*-
"""
The manholes of a ruleset as a Twisted service.

Keys are read before the sockets are bound, while the process has privileges. A key file with insecure
permissions refuses the start. Only rules with a ``manhole`` line import this module, because Twisted's SSH is
an extra.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from portfwd.admin.operator_port import OperatorPort, renew_all
from portfwd.admin.tight_files import LooseFile, check_private
from portfwd.errors import Location, StartError
from portfwd.extras import how_to_install
from portfwd.kernel.reactor import Reactor
from portfwd.listen.binding import bind
from portfwd.rules.admin_lines import ManholeSpec
from portfwd.rules.model import Kind, ListenSpec, Options, PortRange
from portfwd.service.build.bind_failures import cannot_listen
from portfwd.service.operators.forwarder_operator import ForwarderOperator
from portfwd.service.operators.namespace import BANNER, make_namespace
from portfwd.service.run.forwarder import Forwarder
from portfwd.values import Address, InetAddress, UnixAddress

try:
    from portfwd.admin.manhole import ManholeFactory
    from portfwd.admin.shell_keys import new_host_key, public_line, read_client_keys, read_host_key
except ImportError as _missing:  # pragma: no cover - the test environment has it
    raise StartError(
        [f"manhole: Twisted's SSH is not installed ({_missing}): {how_to_install('manhole')}"]
    ) from _missing


@frozen
class _Shell:
    """
    A configured manhole.

    :ivar address: its address, with an absolute path.
    :ivar where: the place of its line.
    """

    address: Address
    factory: ManholeFactory
    where: Location


class Shells(Service):
    """All ``manhole`` lines of a ruleset."""

    name = "portfwd shells"

    def __init__(self, reactor: Reactor, shells: Sequence[_Shell]) -> None:
        self._reactor = reactor
        self._shells = shells
        self.ports: list[OperatorPort] = []
        self._log = Logger()

    def privilegedStartService(self) -> None:
        """
        Bind the sockets.

        :raises StartError: sockets cannot be bound; with one line for each.
        """
        failures = []
        for shell in self._shells:
            again = partial(_bind, shell.address)
            try:
                sock = again()
            except (OSError, LooseFile) as problem:
                failures.append(cannot_listen("manhole", str(shell.address), problem, shell.where))
                continue
            name, make = f"manhole {shell.address}", shell.factory.serve
            self.ports.append(OperatorPort(name, sock, self._reactor, make, bind=again))
        if failures:
            self._close()
            raise StartError(failures)

    def startService(self) -> None:
        """
        Accept clients.

        :raises StartError: another process has taken an address since.
        """
        if not self.ports:
            self.privilegedStartService()
        for port, shell in zip(self.ports, self._shells, strict=True):
            try:
                port.open()
            except OSError as problem:
                self._close()
                line = cannot_listen("manhole", str(shell.address), problem, shell.where)
                raise StartError([line]) from problem
            shell.factory.doStart()
            self._log.info("shell: listening on {address}", address=shell.address)
        super().startService()

    def renew(self) -> Iterator[str]:
        """See `portfwd.admin.operator_port.renew_all`."""
        return renew_all(self.ports)

    def stopService(self) -> Deferred[Any]:
        """Close the sockets and all connections."""
        super().stopService()
        return self._close()

    def _close(self) -> Deferred[Any]:
        ports, self.ports = self.ports, []
        return DeferredList([port.close() for port in ports])


def _bind(address: Address) -> socket.socket:
    (sock,) = bind(_listen(address), _port(address), Options())
    return sock


def _port(address: Address) -> int:
    return address.port if isinstance(address, InetAddress) else 0


def _listen(address: Address) -> ListenSpec:
    """
    The listen address of a manhole as in a rule.

    :raises LooseFile: the directory of its socket is not private.
    """
    if isinstance(address, InetAddress):
        return ListenSpec(Kind.TCP, address.host, PortRange(address.port, address.port))
    check_private(os.path.dirname(address.path))
    return ListenSpec(Kind.UNIX, path=address.path)


def make_shells(
    specs: Sequence[ManholeSpec], operator: ForwarderOperator, forwarder: Forwarder, reactor: Reactor
) -> Shells:
    """
    Read the keys, and make the service.

    :raises StartError: files of manholes cannot be used; with one line for each.
    """
    shells: list[_Shell] = []
    failures: list[str] = []
    for spec in specs:
        address = spec.address
        if isinstance(address, UnixAddress):
            address = UnixAddress(os.path.abspath(address.path))
        try:
            keys = read_client_keys(os.path.abspath(spec.keys))
            host_key = (
                new_host_key() if spec.host_key is None else read_host_key(os.path.abspath(spec.host_key))
            )
        except LooseFile as problem:
            failures.append(f"manhole {address}: {problem} ({spec.where})")
            continue
        except OSError as problem:
            failures.append(f"manhole {address}: {problem.filename}: {problem.strerror} ({spec.where})")
            continue
        namespace = partial(make_namespace, forwarder, operator, reactor)
        shells.append(_Shell(address, ManholeFactory(keys, host_key, reactor, namespace, BANNER), spec.where))
        operator.shells.append({"address": str(address), "host_key": public_line(host_key)})
    if failures:
        raise StartError(failures)
    return Shells(reactor, shells)
