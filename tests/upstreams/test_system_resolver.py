"""Tests for the system's resolver in threads that nobody waits for."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.upstreams import system_resolver as module
from portfwd.upstreams.system_resolver import SystemResolver, resolver_of, system_addresses


class Questions:
    """A blocking resolver whose answers the test gives. :ivar begun: names, as threads begin with them."""

    def __init__(self) -> None:
        self.begun: queue.Queue[str] = queue.Queue()
        self._answers: dict[str, queue.Queue[Sequence[str] | Exception]] = {}

    def __call__(self, host: str) -> Sequence[str]:
        self.begun.put(host)
        answer = self._of(host).get(timeout=30)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _of(self, host: str) -> queue.Queue[Sequence[str] | Exception]:
        return self._answers.setdefault(host, queue.Queue())

    def answer(self, host: str, answer: Sequence[str] | Exception) -> None:
        """Let the thread that works for `host` return."""
        self._of(host).put(answer)


class SystemResolverTests(SynchronousTestCase):
    """`SystemResolver`; what threads call is done when the test says so."""

    def setUp(self) -> None:
        self.calls: queue.Queue[tuple[Callable[..., object], tuple[Any, ...]]] = queue.Queue()
        self.questions = Questions()
        self.resolver = self.make()

    def make(self, **options: Any) -> SystemResolver:
        """A resolver over the test's answers."""

        def call(function: Callable[..., object], *arguments: Any) -> None:
            self.calls.put((function, arguments))

        return SystemResolver(call, self.questions, **options)

    def turn(self) -> None:
        """Do what one thread asks of the reactor's thread."""
        function, arguments = self.calls.get(timeout=30)
        function(*arguments)

    def ask(self, host: str) -> tuple[list[Sequence[str]], Callable[[], None]]:
        """Look a name up."""
        answers: list[Sequence[str]] = []
        return answers, self.resolver.look_up(host, answers.append)

    def test_answer(self) -> None:
        """The answer comes on the reactor's thread."""
        answers, _ = self.ask("db")
        self.questions.answer("db", ["192.0.2.1"])
        self.assertEqual(answers, [])
        self.turn()
        self.assertEqual(answers, [["192.0.2.1"]])
        self.assertEqual(repr(self.resolver), "<SystemResolver 0 running, 0 queued>")

    def test_no_answer(self) -> None:
        """A name that has no address, and a text that is no name, are empty answers."""
        for problem in (socket.gaierror(socket.EAI_NONAME, "no"), UnicodeError("label too long")):
            answers, _ = self.ask("db")
            self.questions.answer("db", problem)
            self.turn()
            self.assertEqual(answers, [()])

    def test_one_thread_a_name(self) -> None:
        """While a thread works for a name, no second one is started, also if the first asker has given up."""
        gone, give_up = self.ask("db")
        give_up()
        give_up()
        answers, _ = self.ask("db")
        self.assertEqual(self.questions.begun.get(timeout=30), "db")
        self.questions.answer("db", ["192.0.2.1"])
        self.turn()
        self.assertEqual((gone, answers), ([], [["192.0.2.1"]]))
        self.assertTrue(self.questions.begun.empty())

    def test_silent_names_do_not_stop_others(self) -> None:
        """A name that is not answered occupies its own thread; another one is answered meanwhile."""
        self.ask("silent")
        answers, _ = self.ask("db")
        self.questions.answer("db", ["192.0.2.1"])
        self.turn()
        self.assertEqual(answers, [["192.0.2.1"]])
        self.questions.answer("silent", ())
        self.turn()

    def test_bounded(self) -> None:
        """More names than threads wait for their turn; who gives up leaves the queue."""
        self.resolver = self.make(most=1)
        self.ask("a")
        _, give_up = self.ask("b")
        answers, _ = self.ask("c")
        self.assertEqual(repr(self.resolver), "<SystemResolver 1 running, 2 queued>")
        give_up()
        self.questions.answer("a", ())
        self.questions.answer("c", ["192.0.2.3"])
        self.turn()
        self.turn()
        self.assertEqual(answers, [["192.0.2.3"]])

    def test_nobody_waits_for_threads(self) -> None:
        """A thread that is blocked does not keep the process from ending."""
        self.ask("db")
        threads = [thread for thread in threading.enumerate() if thread.name == "portfwd look-up"]
        self.assertTrue(threads)
        self.assertTrue(all(thread.daemon for thread in threads))
        self.questions.answer("db", ())
        self.turn()

    def test_no_thread(self) -> None:
        """Where no thread can be started there is no answer; with one running, the name waits for it."""

        class Broken(threading.Thread):
            def start(self) -> None:
                raise RuntimeError("can't start new thread")

        self.ask("a")
        real = threading.Thread
        self.patch(module.threading, "Thread", Broken)
        answers, _ = self.ask("b")
        self.assertEqual(answers, [])
        self.questions.answer("a", ())
        self.turn()
        self.assertEqual(answers, [()])
        self.patch(module.threading, "Thread", real)

    def test_system(self) -> None:
        """The system is asked, and its literals come without repeats."""
        self.assertIn("127.0.0.1", system_addresses("127.0.0.1"))
        found = [
            (0, 0, 0, "", ("192.0.2.1", 0)),
            (0, 0, 0, "", ("192.0.2.1", 0)),
            (0, 0, 0, "", ("::1", 0, 0, 0)),
        ]
        self.patch(module.socket, "getaddrinfo", lambda *_, **__: found)
        self.assertEqual(system_addresses("db"), ["192.0.2.1", "::1"])

    def test_of_a_reactor(self) -> None:
        """Answers go by way of the reactor's `callFromThread`."""

        class Reactor:
            callFromThread = object()  # noqa: N815 - Twisted's name

        self.assertEqual(repr(resolver_of(Reactor())), "<SystemResolver 0 running, 0 queued>")
