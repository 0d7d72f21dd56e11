# -*- test-case-name: tests.upstreams.test_system_resolver -*-
"""
The system's resolver (``getaddrinfo``), in threads that nobody waits for.

It obeys everything that the system is set up with (hosts file, search domains, mDNS, LDAP), which is what an
operator expects of a name in the rules file. A call cannot be interrupted: while name servers are silent it
takes glibc 10 seconds and more. So each look-up has a daemon thread of its own, which neither the reactor's
thread pool nor the end of the process waits for. One thread at most works for a name, also when its first
look-up was given up.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from portfwd.kernel.sockets import literal_of

#: Threads at a time; more names wait for their turn. Each costs some 100 KiB while it waits, and only names
#: that the rules file writes come here.
MAX_THREADS: Final = 64

Done = Callable[[Sequence[str]], None]


def system_addresses(host: str) -> Sequence[str]:
    """
    The literals of `host`, in the order that the system gives them; this blocks.

    :raises OSError, UnicodeError: there are none, or it is no name.
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
        :param call_from_thread: calls a function with its arguments on the reactor's thread.
        :param most: threads at a time.
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
                # No thread can be had. Those that run will come here again; without any there is no answer.
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
            # Whatever happened, somebody waits, and a place is free again.
            self._call_from_thread(self._returned, host, found)

    def _returned(self, host: str, found: Sequence[str]) -> None:
        self._running -= 1
        self._tell(host, found)
        self._begin()

    def _tell(self, host: str, found: Sequence[str]) -> None:
        for done in tuple(self._waiting.pop(host, {}).values()):
            done(found)


def resolver_of(reactor: Any) -> SystemResolver:
    """The system's resolver, answering on `reactor`'s thread."""
    return SystemResolver(reactor.callFromThread)
