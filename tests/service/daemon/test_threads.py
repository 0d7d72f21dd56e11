"""Tests for a stop that waits for no thread."""

from __future__ import annotations

import threading

from twisted.internet import selectreactor
from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.daemon.threads import do_not_join


class ThreadTests(SynchronousTestCase):
    """On a reactor of its own."""

    def test_a_thread_that_does_not_return(self) -> None:
        """The reactor ends although a call in its pool goes on; nor does the thread keep the process."""
        reactor = selectreactor.SelectReactor()
        do_not_join(reactor)
        begun, over = threading.Event(), threading.Event()
        self.addCleanup(over.set)
        threads: list[threading.Thread] = []

        def work() -> None:
            threads.append(threading.current_thread())
            begun.set()
            over.wait()

        def start() -> None:
            reactor.callInThread(work)
            begun.wait()
            reactor.stop()

        reactor.callWhenRunning(start)
        reactor.run(installSignalHandlers=False)
        (thread,) = threads
        self.assertTrue(thread.is_alive() and thread.daemon)

    def test_no_pool(self) -> None:
        """A reactor without threads is fine."""
        do_not_join(object())
