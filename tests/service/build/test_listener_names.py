"""Tests of the addresses of names that listeners are bound to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Barrier, Event

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.steps import finish
from portfwd.service.build.listener_names import ListenerNames, names_of
from portfwd.upstreams.names import LOOK_UP_LIMIT
from tests.service.contexts import rules

#: Seconds after which a thread of a test that has failed goes on.
TIMEOUT = 10.0


class ListenerNamesTests(SynchronousTestCase):
    """`ListenerNames`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: dict[str, Callable[[Sequence[str]], None]] = {}
        self.given_up: list[str] = []
        self.blocked: list[str] = []
        self.names = ListenerNames(self, self.clock, self.resolve)

    def look_up(self, host: str, done: Callable[[Sequence[str]], None]) -> Callable[[], None]:
        """A resolver that the test answers."""
        self.asked[host] = done
        return lambda: self.given_up.append(host)

    def resolve(self, name: str) -> Sequence[str]:
        """The system's resolver at the start."""
        self.blocked.append(name)
        return ["192.0.2.1"]

    def learn(self, *names: str) -> Deferred[None]:
        """A reload wants these."""
        return Deferred.fromCoroutine(self.names.learn(names))

    def test_start(self) -> None:
        """At the start the system is asked, once for a name."""
        self.assertEqual(self.names.addresses("a"), ["192.0.2.1"])
        self.assertEqual(self.names.addresses("a"), ["192.0.2.1"])
        self.assertEqual(self.blocked, ["a"])
        self.assertEqual(repr(self.names), "<ListenerNames 1 known, 0 being looked up>")

    def test_refused(self) -> None:
        """What was learnt for a reload that is not applied is forgotten; what was known before is back."""
        for applied, expected in ((True, ["192.0.2.2"]), (False, ["192.0.2.2"])):
            learnt = self.learn("a")
            self.asked["a"](["192.0.2.2" if applied else "192.0.2.3"])
            self.successResultOf(learnt)
            self.names.settle(applied=applied)
            self.assertEqual(self.names.addresses("a"), expected)
        self.names.settle(applied=False)  # one that was refused before it asked
        self.assertEqual(self.names.addresses("a"), ["192.0.2.2"])

    def test_start_side_by_side(self) -> None:
        """A start looks up all of its names at once, and keeps why one has no address."""
        together = Barrier(3)

        def resolve(name: str) -> Sequence[str]:
            together.wait(TIMEOUT)
            if name == "b":
                raise OSError(5, "no such name")
            if name == "c":
                raise UnicodeError("no name at all")
            return ["192.0.2.1"]

        names = ListenerNames(self, self.clock, resolve)
        names.learn_now({"a", "b", "c"})
        self.assertEqual(names.addresses("a"), ["192.0.2.1"])
        self.assertIn("no such name", str(self.assertRaises(OSError, names.addresses, "b")))
        self.assertIn("no name at all", str(self.assertRaises(OSError, names.addresses, "c")))
        names.learn_now(())

    def test_start_in_silence(self) -> None:
        """A start does not wait longer for a name server than it may; the others' addresses are used."""
        silent = Event()
        self.addCleanup(silent.set)

        def resolve(name: str) -> Sequence[str]:
            if name == "a":
                silent.wait(TIMEOUT)
            return ["192.0.2.1"]

        names = ListenerNames(self, self.clock, resolve)
        names.learn_now({"a"}, 0.0)
        self.assertIn("no name server answers", str(self.assertRaises(OSError, names.addresses, "a")))
        learnt = Deferred.fromCoroutine(names.learn({"a"}))
        self.asked["a"](["192.0.2.7"])
        self.successResultOf(learnt)
        self.assertEqual(names.addresses("a"), ["192.0.2.7"])

    def test_reload(self) -> None:
        """A reload asks for all names side by side, and uses what they say now."""
        self.names.addresses("a")
        learnt = self.learn("b", "a")
        self.assertEqual(sorted(self.asked), ["a", "b"])
        self.asked["b"](["192.0.2.2"])
        self.assertNoResult(learnt)
        self.asked["a"](["192.0.2.9"])
        self.successResultOf(learnt)
        self.assertEqual(
            (self.names.addresses("a"), self.names.addresses("b")), (["192.0.2.9"], ["192.0.2.2"])
        )
        self.assertEqual((self.blocked, self.clock.getDelayedCalls()), (["a"], []))

    def test_silent(self) -> None:
        """
        Without an answer a known name keeps its addresses, and a new one has none until it is asked for
        again.
        """
        self.names.addresses("a")
        learnt = self.learn("a", "b")
        self.clock.advance(LOOK_UP_LIMIT)
        self.successResultOf(learnt)
        self.assertEqual(sorted(self.given_up), ["a", "b"])
        (note,) = self.names.notes  # not of b, which has none to keep
        self.assertIn("the name a has no address, or no name server answers: its listeners keep", note)
        self.assertEqual(self.names.addresses("a"), ["192.0.2.1"])
        problem = self.assertRaises(OSError, self.names.addresses, "b")
        self.assertIn("the name b has no address", str(problem))
        self.learn("b")
        self.asked["b"](["192.0.2.2"])
        self.assertEqual((self.names.addresses("b"), self.names.notes), (["192.0.2.2"], []))
        self.assertEqual(self.blocked, ["a"])

    def test_stop(self) -> None:
        """A stop waits for no name server."""
        learnt = self.learn("a")
        self.names.stop()
        self.successResultOf(learnt)
        self.assertEqual((self.given_up, self.clock.getDelayedCalls()), (["a"], []))


class NamesToLookUpTests(SynchronousTestCase):
    """Which names a reload needs."""

    def test_names(self) -> None:
        """Names of listeners are looked up, literals and paths are not."""
        target = "-> 192.0.2.1:1\n"
        text = f"a: one.example:80 {target}b: :82 {target}c: unix:/x {target}d: two.example:83 {target}"
        self.assertEqual(finish(names_of(rules(text))), {"one.example", "two.example"})
