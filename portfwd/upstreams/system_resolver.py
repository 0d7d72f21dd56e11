# -*- test-case-name: tests.upstreams.test_system_resolver -*-
"""
The system's resolver (``getaddrinfo``), called in daemon threads.

It uses the whole configuration of the system (hosts file, search domains, mDNS, LDAP), as an operator expects
for names in the rules file. A call cannot be interrupted and may take more than 10 seconds if the name
servers do not answer. So each look-up runs in its own daemon thread. It occupies no thread of the reactor's
pool, and the process does not wait for it to exit. At most one thread runs for a name, even if its look-up
was cancelled.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from portfwd.kernel.socket_addresses import literal_of

#: Maximum number of threads; further names are queued. A waiting thread costs about 100 KiB. Only names of
#: the rules file are looked up here.
MAX_THREADS: Final = 64

Done = Callable[[Sequence[str]], None]


def system_addresses(host: str) -> Sequence[str]:
    """
    Return the IP addresses of `host` in the order of the system. This blocks.

    :raises OSError, UnicodeError: there are none, or `host` is not a valid name.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(literal_of(sockaddr) for _, _, _, _, sockaddr in found))


class SystemResolver:
    """Implements `portfwd.upstreams.names.Resolver`."""

    def __init__(
        self,
        call_from_thread: Callable[..., object],
        resolve: Callable[[str], Sequence[str]] = system_addresses,
        most: int = MAX_THREADS,
    ) -> None:
        """
        :param call_from_thread: calls a function with its arguments in the reactor's thread.
        :param most: maximum number of threads.
        """
        self._call_from_thread = call_from_thread
        self._resolve = resolve
        self._most = most
        self._waiting: dict[str, dict[object, Done]] = {}
        self._queue: dict[str, None] = {}
        self._running = 0

    def __repr__(self) -> str:
        return f"<SystemResolver {self._running} running, {len(self._queue)} queued>"

    def look_up(self, host: str, done: Done) -> Callable[[], None]:
        """See `portfwd.upstreams.names.Resolver`."""
        key = object()
        first = host not in self._waiting
        self._waiting.setdefault(host, {})[key] = done
        if first:
            self._queue[host] = None
            self._begin()

        def give_up() -> None:
            waiting = self._waiting.get(host, {})
            waiting.pop(key, None)
            if not waiting and host in self._queue:
                del self._queue[host], self._waiting[host]

        return give_up

    def _begin(self) -> None:
        while self._queue and self._running < self._most:
            host = next(iter(self._queue))
            thread = threading.Thread(target=self._work, args=(host,), name="portfwd look-up", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # No thread can be started. A running thread will call this again; if there is none, the
                # look-up fails.
                if self._running:
                    return
                del self._queue[host]
                self._tell(host, ())
                continue
            del self._queue[host]
            self._running += 1

    def _work(self, host: str) -> None:
        found: Sequence[str] = ()
        try:
            found = self._resolve(host)
        except (OSError, UnicodeError):
            found = ()
        finally:
            # In every case report the result and free the slot of this thread.
            self._call_from_thread(self._returned, host, found)

    def _returned(self, host: str, found: Sequence[str]) -> None:
        self._running -= 1
        self._tell(host, found)
        self._begin()

    def _tell(self, host: str, found: Sequence[str]) -> None:
        for done in tuple(self._waiting.pop(host, {}).values()):
            done(found)


def resolver_of(reactor: Any) -> SystemResolver:
    """Make a system resolver that reports results in the thread of `reactor`."""
    return SystemResolver(reactor.callFromThread)
