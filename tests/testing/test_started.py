"""Tests of `portfwd.testing.started`: factories are started before they are tested."""

from __future__ import annotations

from attrs import frozen
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import (
    TO_UPSTREAM,
    Connection,
    Direction,
    Filter,
    FilterFactory,
    Plugin,
    Services,
    Verdict,
)
from portfwd.testing import Pipe, check_filter, started


class Counting(FilterFactory):
    """Counts pieces, which it cannot before it is started."""

    def start(self, services: Services) -> None:
        self.pieces = services.counter("pieces", "pieces of bytes")
        self.began = services.clock.seconds()

    def build(self, connection: Connection) -> Filter:
        return Count(self)


class Count(Filter):
    """One connection."""

    def __init__(self, factory: Counting) -> None:
        self.factory = factory

    def received(self, direction: Direction, data: bytes) -> Verdict:
        self.factory.pieces.inc()
        return None


@frozen
class Options:
    """None."""


PLUGIN = Plugin("counting", "counts", Options, lambda options, routes: Counting())


class StartedTests(SynchronousTestCase):
    """Who starts a factory."""

    def test_started(self) -> None:
        """A factory gets services, with the clock of the test; what has no ``start`` is as it was."""
        clock = Clock()
        clock.advance(5.0)
        factory = started(Counting(), clock)
        self.assertEqual(factory.began, 5.0)
        pipe = Pipe(factory)
        pipe.send(TO_UPSTREAM, b"a", b"b")
        self.assertEqual(list(factory.pieces.samples()), [(("test", "Counting"), 2.0)])
        plain = Filter()
        self.assertIs(started(plain), plain)

    def test_made_by_others(self) -> None:
        """What a pipe or a check makes of a class or a plug-in is started."""
        for one in (Counting, PLUGIN):
            pipe = Pipe(one)
            pipe.send(TO_UPSTREAM, b"a")
            self.assertEqual(pipe.to_upstream, b"a")
            check_filter(one, [b"hello"])
        check_filter(started(Counting()), [b"hello"])
        check_filter(lambda: started(Counting()), [b"hello"])
