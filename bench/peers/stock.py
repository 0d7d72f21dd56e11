# -*- test-case-name: tests.bench.test_peers -*-
"""
What Twisted ships: ``twisted.protocols.portforward.ProxyFactory`` on the epoll reactor.

As a program (``python -m bench.peers.stock HOST PORT THOST TPORT …``) it is the
forwarder itself; the class tells the lab how to start it.
"""

from __future__ import annotations

import sys

from bench.peers.api import AbsentError, Logs, Peer, Setup
from bench.peers.checkout import environment


class Stock(Peer):
    """Twisted's own port forwarder."""

    name = "stock"
    about = "twisted.protocols.portforward, epoll"

    def version(self) -> str:
        """Twisted's version."""
        try:
            import twisted
        except ImportError:
            raise AbsentError("Twisted is not installed") from None
        return f"Twisted {twisted.__version__}"

    def command(self, setup: Setup) -> list[str]:
        """The program at the end of this file."""
        words = [sys.executable, "-m", "bench.peers.stock"]
        if setup.logs is Logs.ON:
            words.append("--log")
        for forward in setup.forwards:
            words += [setup.host, str(forward.port), forward.target_host, str(forward.target_port)]
        return words

    def environment(self) -> dict[str, str]:
        """So that this file is found."""
        return environment()


def main(argv: list[str]) -> None:
    """Forward until killed; ``--log`` writes Twisted's log, which is all it has, to standard output."""
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import reactor
    from twisted.protocols.portforward import ProxyFactory
    from twisted.python import log

    if argv and argv[0] == "--log":
        log.startLogging(sys.stdout, setStdout=False)
        argv = argv[1:]
    for at in range(0, len(argv), 4):
        host, port, target_host, target_port = argv[at : at + 4]
        factory = ProxyFactory(target_host, int(target_port))
        # Its own annotations do not fit together.
        reactor.listenTCP(int(port), factory, backlog=4096, interface=host)  # type: ignore[arg-type]
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
