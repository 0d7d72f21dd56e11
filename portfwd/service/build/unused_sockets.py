# -*- test-case-name: tests.service.run.test_transition -*-
"""
Sockets of systemd whose rule was removed.

systemd and this process have them open, so the kernel continues to accept clients, which would wait for ever.
This module refuses these clients. Sockets that no rule has used are left alone, because another part of the
program may use them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from twisted.logger import Logger

from portfwd.kernel.reactor import Reactor
from portfwd.kernel.sockets import close_by_reset
from portfwd.limits.descriptors import PER_SESSION, DescriptorBudget
from portfwd.listen import systemd
from portfwd.listen.listener import Listener
from portfwd.values import Address


class UnusedSockets:
    """The unused sockets of a process, by systemd's names."""

    _log = Logger()

    def __init__(
        self, reactor: Reactor, budget: DescriptorBudget, inherited: Callable[[], Mapping[str, Sequence[int]]]
    ) -> None:
        """:param inherited: descriptors by name."""
        self._reactor = reactor
        self._budget = budget
        self._inherited = inherited
        self._known: set[str] = set()
        self._refusing: dict[str, list[Listener]] = {}

    def __repr__(self) -> str:
        return f"<UnusedSockets {sorted(self._refusing)}>"

    def refuse(self, used: Iterable[str]) -> None:
        """Refuse the clients of all sockets that were used before and are not in `used`."""
        used = set(used)
        self._known |= used
        for name in self._known:
            if name in used:
                for listener in self._refusing.pop(name, ()):
                    listener.stop()
            elif name not in self._refusing:
                self._refusing[name] = list(self._refusers(name))

    def stop(self) -> None:
        """The process stops."""
        while self._refusing:
            for listener in self._refusing.popitem()[1]:
                listener.stop()

    def _refusers(self, name: str) -> Iterator[Listener]:
        budget = self._budget

        def refuse(client: socket.socket, _: Address | None) -> None:
            close_by_reset(client)
            budget.give_back(PER_SESSION)

        for descriptor in self._inherited().get(name, ()):
            try:
                sock = systemd.adopt(descriptor)
            except OSError:
                continue  # it takes datagrams, whose senders wait for nobody
            listener = Listener(name, sock, self._reactor, budget, refuse, None, inherited=True)
            try:
                listener.start()
            except OSError:  # the kernel watches no more sockets
                listener.stop()
                continue
            self._log.info("systemd:{name}: no rule listens there, its clients are refused", name=name)
            yield listener
