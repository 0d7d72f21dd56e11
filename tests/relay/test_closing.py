"""The modes in which a stream is closed, each by itself."""

from __future__ import annotations

import itertools

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.closing import FIRST_LOOK, LONGEST_LOOK, Closing
from portfwd.relay.ends import Event, Flow, Mode
from portfwd.streams.stream import Loss, Stream
from tests.relay.fakes import FakeStream, Fault


class Owner:
    """Who owns a stream that is closed: hands on what it is told."""

    closing: Closing

    def began(self, stream: Stream) -> None: ...
    def opened(self, stream: Stream) -> None: ...

    def ended(self, stream: Stream) -> None:
        self.closing.tell(Event.ENDED)

    def end_sent(self, stream: Stream) -> None:
        self.closing.tell(Event.END_SENT)

    def writing_failed(self, stream: Stream, detail: str) -> None:
        self.closing.tell(Event.REFUSED)

    def thrown_away(self, stream: Stream, count: int) -> None:
        self.closing.tell(Event.SPOKE)

    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        self.closing.over()


class ClosingTests(SynchronousTestCase):
    """One stream, one mode, a clock."""

    def setUp(self) -> None:
        """A stream that its peer has not ended."""
        self.clock = Clock()
        self.stream = FakeStream(self.clock)
        self.owner = Owner()
        self.stream.own(self.owner)
        self.stream.start()
        self.stream.calls.clear()
        self.broken: list[Failure] = []

    def closing(
        self, mode: Mode, *, linger: float = 5.0, mine: Flow = Flow.OPEN, theirs: Flow = Flow.OPEN
    ) -> Closing:
        """Close the stream; `mine` is the flow from it, `theirs` the flow to it."""
        made = Closing(self.clock, self.stream, mode, (mine, theirs), linger, self.broken.append)
        self.owner.closing = made
        made.start()
        return made

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
        self.closing(Mode.RESET)
        self.assertGone("abort")

    def test_close(self) -> None:
        """Released; nothing else."""
        self.closing(Mode.CLOSE, mine=Flow.END_OUT, theirs=Flow.END_OUT)
        self.assertGone("close")

    def test_close_with_progress(self) -> None:
        """A release may take as long as something moves, and linger from then on."""
        self.stream.close = lambda: self.stream.calls.append("close")  # type: ignore[method-assign]
        self.stream.unsent = 3
        self.closing(Mode.CLOSE, linger=1.0)
        for _ in range(3):
            self.wait(0.8)
            self.stream.unsent -= 1
        self.assertEqual(self.stream.calls, ["close"])
        self.wait(1.2)
        self.assertGone("close", "abort")

    def test_end_and_discard(self) -> None:
        """Ended, read out until the peer ends too, then released."""
        self.closing(Mode.END_AND_READ)
        self.assertEqual(self.stream.calls, ["end", "discard"])
        self.stream.ends()
        self.assertGone("end", "discard", "close")

    def test_end_was_asked(self) -> None:
        """An end that is under way is not asked for again, only waited for."""
        self.stream.unsent = 1
        self.stream.end()
        self.closing(Mode.END_AND_READ, theirs=Flow.END_ASKED)
        self.stream.takes(1)
        self.stream.ends()
        self.assertGone("end", "discard", "close")

    def test_peer_ended_before(self) -> None:
        """A peer that has ended already is not waited for, but our end is."""
        self.stream.unsent = 1
        self.closing(Mode.END_AND_READ, mine=Flow.ENDED)
        self.assertEqual(self.stream.calls, ["end", "discard"])
        self.stream.takes(1)
        self.assertGone("end", "discard", "close")

    def test_peer_never_ends(self) -> None:
        """Reset after linger."""
        self.closing(Mode.END_AND_READ, linger=2.0)
        self.wait(1.8)
        self.assertEqual(self.stream.calls, ["end", "discard"])
        self.wait(0.4)
        self.assertGone("end", "discard", "abort")

    def test_deliver_nothing(self) -> None:
        """With nothing undelivered the reset is immediate."""
        self.closing(Mode.DELIVER)
        self.assertGone("abort")

    def test_deliver(self) -> None:
        """With something undelivered the stream is read out, and reset when the peer has everything."""
        self.stream.unsent = 10
        self.closing(Mode.DELIVER)
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
        self.closing(Mode.DELIVER)
        for _ in range(2000):
            self.clock.advance(0.001)
        pauses = [round(after - before, 3) for before, after in itertools.pairwise(looks[:7])]
        self.assertEqual(pauses, [FIRST_LOOK, 0.008, 0.032, LONGEST_LOOK, LONGEST_LOOK, LONGEST_LOOK])

    def test_nothing_is_taken(self) -> None:
        """Reset after linger; what is left is dropped."""
        self.stream.unsent = 10
        self.closing(Mode.DELIVER, linger=1.0)
        self.wait(0.9)
        self.assertEqual(self.stream.calls, ["discard"])
        self.wait(0.2)
        self.assertGone("discard", "abort")

    def test_nobody_can_tell(self) -> None:
        """Where it is not known what the peer has, the reset waits for linger."""
        self.stream.undelivered = lambda: None  # type: ignore[method-assign,assignment,return-value]
        self.closing(Mode.DELIVER, linger=1.0)
        self.wait(0.9)
        self.assertEqual(self.stream.calls, ["discard"])
        self.wait(0.2)
        self.assertGone("discard", "abort")

    def test_goes_on_sending(self) -> None:
        """Ended because the other side is closed: what the peer sends then resets it, in time."""
        self.stream.unsent = 5
        self.closing(Mode.END_OR_RESET)
        self.assertEqual(self.stream.calls, ["end", "discard"])
        self.stream.babbles()
        self.assertEqual(self.stream.calls, ["end", "discard"])
        self.stream.takes(5)
        self.wait(LONGEST_LOOK)
        self.assertGone("end", "discard", "abort")

    def test_goes_on_sending_later(self) -> None:
        """It is reset at once where it has acknowledged everything before; one that ends is released."""
        self.closing(Mode.END_OR_RESET)
        self.stream.babbles()
        self.assertGone("end", "discard", "abort")
        self.setUp()
        self.closing(Mode.END_OR_RESET)
        self.stream.ends()
        self.assertGone("end", "discard", "close")

    def test_refused(self) -> None:
        """What was under way is thrown away; a peer that has the end, and goes on sending, is reset."""
        self.closing(Mode.REFUSE)
        self.stream.babbles()
        self.assertEqual(self.stream.calls, ["end", "discard"])
        self.clock.advance(FIRST_LOOK)
        self.assertEqual(self.stream.calls, ["end", "discard"])
        self.stream.babbles()
        self.assertGone("end", "discard", "abort")

    def test_what_was_dropped(self) -> None:
        """What the peer had not acknowledged after linger is counted, without the end."""
        self.stream.unsent = 8
        closing = self.closing(Mode.DELIVER, linger=1.0, theirs=Flow.END_OUT)
        self.wait(1.2)
        self.assertEqual(closing.dropped, 7)

    def test_what_a_reset_dropped(self) -> None:
        """So is what is for the peer when it is reset at once."""
        self.stream.unsent = 8
        closing = self.closing(Mode.RESET)
        self.assertEqual(closing.dropped, 8)

    def test_discard_finds_the_loss(self) -> None:
        """A stream that is lost while it is asked to discard leaves no timer."""
        self.stream.unsent = 10
        self.stream.discard = self.stream.resets  # type: ignore[method-assign]
        self.closing(Mode.DELIVER)
        self.assertGone()

    def test_lost_while_it_is_waited_for(self) -> None:
        """The loss ends the waiting."""
        self.stream.unsent = 10
        self.closing(Mode.DELIVER)
        self.stream.resets()
        self.assertGone("discard")

    def test_stream_raises_from_a_timer(self) -> None:
        """Whoever said so is told, and the timer is not set again."""
        self.stream.unsent = 10
        self.closing(Mode.DELIVER)
        self.stream.faults.add("undelivered")
        self.clock.advance(FIRST_LOOK)
        self.assertEqual([failure.type for failure in self.broken], [Fault])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_repr(self) -> None:
        """It says the mode and the stream."""
        self.stream.later = True
        self.assertIn("<Closing close <", repr(self.closing(Mode.CLOSE)))
