# -*- test-case-name: tests.service.daemon.test_threads -*-
"""
Lets the process stop without joining threads.

Twisted's reactor joins the threads of its pool when it stops. A call in such a thread may take long: with a
silent name server ``getaddrinfo`` takes 10 seconds and more. The result is no longer needed at a stop.
"""

from __future__ import annotations

from functools import partial
from threading import Thread
from typing import Any


def do_not_join(reactor: Any) -> None:
    """
    Make the threads of the reactor's pool daemon threads, and do not join them at a stop.

    Call it only in a process of portfwd, before the pool starts a thread. A reactor without a pool is left as
    it is.
    """
    get = getattr(reactor, "getThreadPool", None)
    if get is None:
        return
    get().threadFactory = partial(Thread, daemon=True)
    trigger = getattr(reactor, "threadpoolShutdownID", None)
    if trigger is not None:
        reactor.removeSystemEventTrigger(trigger)
        reactor.threadpoolShutdownID = None
