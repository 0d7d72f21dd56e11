# -*- test-case-name: tests.service.daemon.test_threads -*-
"""
A stop that waits for no thread.

Twisted's reactor joins the threads of its pool when it stops. Whatever runs there may take long (a name
server that is silent keeps ``getaddrinfo`` for 10 seconds and more), and nobody wants its result any more.
"""

from __future__ import annotations

from functools import partial
from threading import Thread
from typing import Any


def wait_for_none(reactor: Any) -> None:
    """
    Make the threads of `reactor`'s pool daemons, and let it stop without them.

    For a process of our own, before a thread was started. Reactors without a pool are fine.
    """
    get = getattr(reactor, "getThreadPool", None)
    if get is None:
        return
    get().threadFactory = partial(Thread, daemon=True)
    trigger = getattr(reactor, "threadpoolShutdownID", None)
    if trigger is not None:
        reactor.removeSystemEventTrigger(trigger)
        reactor.threadpoolShutdownID = None
