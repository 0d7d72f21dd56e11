"""The four ways to bring a stream to its end, each by itself."""

from __future__ import annotations

import itertools

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.farewell import FIRST_LOOK, LONGEST_LOOK, Farewell, Way
from portfwd.streams.stream import Loss, Stream
from tests.relay.fakes import FakeStream, Fault


class Owner:
    """Who owns a stream that is seen off: hands on what it is told."""

    farewell: Farewell

    def began(self, stream: Stream) -> None: ...
    def opened(self, stream: Stream) -> None: ...

    def ended(self, stream: Stream) -> None:
        self.farewell.ended()

    def end_sent(self, stream: Stream) -> None:
        self.farewell.end_sent()

    def writing_failed(self, stream: Stream) -> None: ...

    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        self.farewell.over()


class FarewellTests(SynchronousTestCase):
    """One stream, one way, a clock."""

    def setUp(self) -> None:
        """A stream that its peer has not ended."""
        self.clock = Clock()
        self.stream = FakeStream(self.clock)
        self.owner = Owner()
        self.stream.own(self.owner)
        self.stream.start()
        self.stream.calls.clear()
        self.broken: list[Failure] = []

    def farewell(
        self, way: Way, *, linger: float = 5.0, end_asked: bool = False, peer_ended: bool = False
    ) -> Farewell:
        """See the stream off."""
        self.owner.farewell = Farewell(self.clock, self.stream, way, linger, self.broken.append)
        self.owner.farewell.start(end_asked=end_asked, peer_ended=peer_ended)
        return self.owner.farewell

    def assertGone(self, *calls: str) -> None:
        """The stream was asked this and is lost; no timer waits."""
        self.assertEqual(self.stream.calls, list(calls))
        self.assertTrue(self.stream.is_lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def wait(self, seconds: float) -> None:
        """Small steps."""
        for _ in range(round(seconds / 0.05)):
            self.clock.advance(0.05)

    def test_abort(self) -> None:
        """Reset at once, whatever is undelivered."""
        self.stream.unsent = 10
        self.farewell(Way.ABORT)
        self.assertGone("abort")

    def test_close(self) -> None:
        """Released; nothing else."""
        self.farewell(Way.CLOSE, end_asked=True, peer_ended=True)
        self.assertGone("close")

    def test_close_with_progress(self) -> None:
        """A release may take as long as something moves, and linger from then on."""
        self.stream.close = lambda: self.stream.calls.append("close")  # type: ignore[method-assign]
        self.stream.unsent = 3
        self.farewell(Way.CLOSE, linger=1.0)
        for _ in range(3):
            self.wait(0.8)
            self.stream.unsent -= 1
        self.assertEqual(self.stream.calls, ["close"])
        self.wait(1.2)
        self.assertGone("close", "abort")

    def test_end_and_discard(self) -> None:
        """Ended, read out until the peer ends too, then released."""
        self.farewell(Way.END_AND_DISCARD)
        self.assertEqual(self.stream.calls, ["end", "discard"])
        self.stream.ends()
        self.assertGone("end", "discard", "close")

    def test_end_was_asked(self) -> None:
        """An end that is under way is not asked for again, only waited for."""
        self.stream.unsent = 1
        self.stream.end()
        self.farewell(Way.END_AND_DISCARD, end_asked=True)
        self.stream.takes(1)
        self.stream.ends()
        self.assertGone("end", "discard", "close")

    def test_peer_ended_before(self) -> None:
        """A peer that has ended already is not waited for, but our end is."""
        self.stream.unsent = 1
        self.farewell(Way.END_AND_DISCARD, peer_ended=True)
        self.assertEqual(self.stream.calls, ["end", "discard"])
        self.stream.takes(1)
        self.assertGone("end", "discard", "close")

    def test_peer_never_ends(self) -> None:
        """Reset after linger."""
        self.farewell(Way.END_AND_DISCARD, linger=2.0)
        self.wait(1.8)
        self.assertEqual(self.stream.calls, ["end", "discard"])
        self.wait(0.4)
        self.assertGone("end", "discard", "abort")

    def test_deliver_nothing(self) -> None:
        """With nothing undelivered the reset is immediate."""
        self.farewell(Way.DELIVER_AND_ABORT)
        self.assertGone("abort")

    def test_deliver(self) -> None:
        """With something undelivered the stream is read out, and reset when the peer has everything."""
        self.stream.unsent = 10
        self.farewell(Way.DELIVER_AND_ABORT)
        self.assertEqual(self.stream.calls, ["discard"])
        self.stream.takes(10)
        self.clock.advance(FIRST_LOOK)
        self.assertGone("discard", "abort")

    def test_looks_become_rare(self) -> None:
        """The send queue is looked at often at first, and never more than ten times a second later."""
        self.stream.unsent = 10
        looks = []
        undelivered = self.stream.undelivered

        def look() -> int:
            looks.append(self.clock.seconds())
            return undelivered()

        self.stream.undelivered = look  # type: ignore[method-assign]
        self.farewell(Way.DELIVER_AND_ABORT)
        for _ in range(2000):
            self.clock.advance(0.001)
        pauses = [round(after - before, 3) for before, after in itertools.pairwise(looks[:7])]
        self.assertEqual(pauses, [FIRST_LOOK, 0.008, 0.032, LONGEST_LOOK, LONGEST_LOOK, LONGEST_LOOK])

    def test_nothing_is_taken(self) -> None:
        """Reset after linger; what is left is dropped."""
        self.stream.unsent = 10
        self.farewell(Way.DELIVER_AND_ABORT, linger=1.0)
        self.wait(0.9)
        self.assertEqual(self.stream.calls, ["discard"])
        self.wait(0.2)
        self.assertGone("discard", "abort")

    def test_discard_finds_the_loss(self) -> None:
        """A stream that is lost while it is asked to discard leaves no timer."""
        self.stream.unsent = 10
        self.stream.discard = self.stream.resets  # type: ignore[method-assign]
        self.farewell(Way.DELIVER_AND_ABORT)
        self.assertGone()

    def test_lost_while_it_is_waited_for(self) -> None:
        """The loss ends the waiting."""
        self.stream.unsent = 10
        self.farewell(Way.DELIVER_AND_ABORT)
        self.stream.resets()
        self.assertGone("discard")

    def test_stream_raises_from_a_timer(self) -> None:
        """Whoever said so is told, and the timer is not set again."""
        self.stream.unsent = 10
        self.farewell(Way.DELIVER_AND_ABORT)
        self.stream.faults.add("undelivered")
        self.clock.advance(FIRST_LOOK)
        self.assertEqual([failure.type for failure in self.broken], [Fault])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_repr(self) -> None:
        """It says the way and the stream."""
        self.stream.later = True
        self.assertIn("<Farewell close <", repr(self.farewell(Way.CLOSE)))
