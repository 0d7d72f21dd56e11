# -*- test-case-name: tests.service.toxiproxy.test_server -*-
"""The ``toxiproxy`` line of a ruleset: its listener, and the proxies of its file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from portfwd.admin.operator_port import OperatorPort, renew_all
from portfwd.admin.toxiproxy_api import toxiproxy_site
from portfwd.errors import StartError, reason_of
from portfwd.kernel.reactor import Reactor
from portfwd.listen.binding import bind_first
from portfwd.rules.admin_lines import ToxiproxySpec
from portfwd.rules.model import Kind, ListenOptions, ListenSpec, PortRange
from portfwd.service.build.bind_failures import cannot_listen
from portfwd.service.build.toxiproxy_config import read_proxies
from portfwd.service.toxiproxy.proxies import AcceptsRules, ToxicProxies
from portfwd.values import UnixAddress


class ToxiproxyServer(Service):
    """
    Serves toxiproxy's API. The forwarder is started before it.

    :ivar address: its URL while it listens, or an empty text.
    """

    name = "portfwd toxiproxy"
    _log = Logger()

    def __init__(self, reactor: Reactor, spec: ToxiproxySpec, forwarder: AcceptsRules) -> None:
        """
        Read the file; nothing is bound yet.

        :raises StartError: the file cannot be used.
        """
        self._reactor: Any = reactor
        self._where = spec.where
        self._listen = _listen_spec(spec)
        self._label = str(spec.address)
        self._port: OperatorPort | None = None
        self.address = ""
        self._config_path = spec.config
        try:
            self._config = [] if spec.config is None else read_proxies(os.path.abspath(spec.config))
        except (OSError, ValueError) as problem:
            line = f"toxiproxy: {spec.config}: {reason_of(problem)} ({spec.where})"
            raise StartError([line]) from None
        self._proxies = ToxicProxies(forwarder, reactor, spec.seed)
        self._site = toxiproxy_site(reactor, self._proxies, spec.hosts)

    def __repr__(self) -> str:
        return f"<ToxiproxyServer {self.address or 'not bound'} {self._proxies!r}>"

    def privilegedStartService(self) -> None:
        """
        Bind the listener.

        :raises StartError: it cannot be bound.
        """
        again = partial(bind_first, self._listen)
        try:
            sock = again()
        except OSError as problem:
            raise self._refusal(problem) from problem
        self._port = OperatorPort("toxiproxy", sock, self._reactor, self._site.serve, bind=again)

    def _refusal(self, problem: OSError) -> StartError:
        return StartError([cannot_listen("toxiproxy", self._label, problem, self._where)])

    def startService(self) -> None:
        """Make the proxies of the file, then accept clients."""
        if self._port is None:
            self.privilegedStartService()
        super().startService()
        Deferred.fromCoroutine(self._begin()).addErrback(
            lambda failure: self._log.failure("toxiproxy: the start failed", failure)
        )

    async def _begin(self) -> None:
        _, problem = await self._proxies.populate(self._config)
        if problem is not None:
            self._log.error(
                "toxiproxy: config={path}: no proxy was made: {problem}",
                path=self._config_path,
                problem=problem,
            )
        port = self._port
        if port is None or not self.running:
            return
        port.open()
        self.address = port.url("")
        self._log.info("toxiproxy: listening on {address}", address=self.address)

    def stopService(self) -> Deferred[None] | None:
        """Stop accepting. The forwarder stops the proxies."""
        super().stopService()
        port, self._port = self._port, None
        self.address = ""
        return None if port is None else port.close()

    def renew(self) -> Iterator[str]:
        """See `portfwd.admin.operator_port.renew_all`."""
        return renew_all(() if self._port is None else (self._port,))


def _listen_spec(spec: ToxiproxySpec) -> ListenSpec:
    address = spec.address
    if isinstance(address, UnixAddress):
        path = os.path.abspath(address.path)
        return ListenSpec(Kind.UNIX, path=path, options=ListenOptions(mode=0o600), where=spec.where)
    return ListenSpec(Kind.TCP, address.host, PortRange(address.port, address.port), where=spec.where)
