"""
Ends: FIN is passed on as FIN, RST as RST, after every byte before it, in every order.

Each case is also played without a forwarder, where only the script itself can be wrong.
"""

from __future__ import annotations

from portfwd.testing.peers import Dialer, Incoming, converse
from portfwd.values import Address, UnixAddress
from tests.integration.case import LOOPBACK, ForwarderCase, deep, needs_deep


class EndCases:
    """Every relay must pass these."""

    def half_close(self: ForwarderCase, over: Address) -> None:
        """Both orders over one kind of address."""
        self.play(
            ["send 1MiB", "end", "expect 2MiB", "expect end"],
            ["expect 1MiB", "expect end", "expect nothing for 300ms", "send 2MiB", "end"],
            over=over,
            ended_first="client",
        )
        self.play(
            ["expect 2MiB", "expect end", "expect nothing for 300ms", "send 1MiB", "end"],
            ["send 2MiB", "end", "expect 1MiB", "expect end"],
            over=over,
            ended_first="upstream",
        )

    def test_half_close(self: ForwarderCase) -> None:
        """One direction ends, the other goes on, whichever is first."""
        self.half_close(LOOPBACK)  # type: ignore[attr-defined]

    def test_half_close_on_unix_sockets(self: ForwarderCase) -> None:
        """The same by path."""
        self.half_close(UnixAddress("path"))  # type: ignore[attr-defined]

    def test_half_close_on_abstract_sockets(self: ForwarderCase) -> None:
        """The same by abstract name."""
        self.half_close(UnixAddress("@name"))  # type: ignore[attr-defined]

    def test_answer_long_after_the_end(self: ForwarderCase) -> None:
        """The client ends; the answer comes much later and arrives."""
        pause = "30s" if deep() else "2s"
        self.play(
            ['send "question"', "end", 'expect "answer" within 40s', "expect end"],
            ['expect "question"', "expect end", f"expect nothing for {pause}", 'send "answer"', "end"],
        )

    def test_question_long_after_the_end(self: ForwarderCase) -> None:
        """The mirror: the upstream ends, the client goes on much later."""
        pause = "30s" if deep() else "2s"
        self.play(
            ['expect "banner"', "expect end", f"expect nothing for {pause}", 'send "late"', "end"],
            ['send "banner"', "end", 'expect "late" within 40s', "expect end"],
        )

    def test_both_end_at_once(self: ForwarderCase) -> None:
        """Two ends that cross are two ends."""
        steps = ["send 100KiB", "end", "read to end"]
        self.play(steps, steps)

    def test_sender_ends_while_the_reader_is_stopped(self: ForwarderCase) -> None:
        """Everything is in some buffer when the end comes: all of it arrives, then FIN."""
        _, upstream = self.play(
            ["stop reading", "say stopped", "hear ended", "resume reading", "read to end", "end"],
            ["hear stopped", "fill", "end", "say ended", "read to end"],
            options="half-close=20s",
        )
        self.assertGreater(upstream.sent.count, 65536)

    def test_fifty_megabytes_to_a_stopped_reader(self: ForwarderCase) -> None:
        """The sender is held back, the reader resumes: all of it, then FIN."""
        client, _ = self.play(
            ["stop reading", "say stopped", "hear full", "resume reading", "read to end within 60s", "end"],
            ["hear stopped", "fill", "say full", "send up to 50MiB within 60s", "end", "read to end"],
        )
        self.assertGreaterEqual(client.received.count, 50 * 1024**2)

    def test_fifty_megabytes_to_a_stopped_upstream(self: ForwarderCase) -> None:
        """The mirror."""
        _, upstream = self.play(
            ["hear stopped", "fill", "say full", "send up to 50MiB within 60s", "end", "read to end"],
            ["stop reading", "say stopped", "hear full", "resume reading", "read to end within 60s", "end"],
        )
        self.assertGreaterEqual(upstream.received.count, 50 * 1024**2)

    def test_answer_during_an_upload(self: ForwarderCase) -> None:
        """The upstream answers, ends and closes while the client still uploads: the whole answer arrives."""
        client, _ = self.play(
            ["send 1MiB", "offer 64MiB", "read to close"],
            # 32 KiB fit the first window: they have left the upstream's kernel before its close resets.
            ["expect 1MiB", "stop reading", "send 32KiB", "end", "close"],
            reason=("--", "SD", "SH"),
            orderly=False,
        )
        self.assertEqual(client.received.count, 32768)

    def test_client_resets(self: ForwarderCase) -> None:
        """The upstream sees a reset, at once."""
        self.play(
            ["send 10", "hear got", "reset"],
            ["expect 10", "say got", "expect reset within 10s"],
            reason="CD",
            ended_first="client",
        )

    def test_upstream_resets(self: ForwarderCase) -> None:
        """The client sees a reset, at once."""
        self.play(
            ["expect 10", "say got", "expect reset within 10s"],
            ["send 10", "hear got", "reset"],
            reason="SD",
            ended_first="upstream",
        )

    def test_bytes_before_a_reset(self: ForwarderCase) -> None:
        """What was received before the reset is delivered before the reset."""
        client, _ = self.play(["send 10", "read to reset"], ["expect 10", "send 32KiB", "reset"], reason="SD")
        self.assertEqual(client.received.count, 32768)

    def test_bytes_before_a_reset_of_the_client(self: ForwarderCase) -> None:
        """The mirror."""
        _, upstream = self.play(
            ["hear reached", "send 32KiB", "reset"], ["say reached", "read to reset"], reason=("CD", "CC")
        )
        self.assertEqual(upstream.received.count, 32768)

    def test_reset_in_the_middle_of_bulk(self: ForwarderCase) -> None:
        """A download that breaks looks broken: a prefix, then RST."""
        client, _ = self.play(
            ["expect 4MiB", "say enough", "read to reset"], ["send 8MiB", "hear enough", "reset"], reason="SD"
        )
        self.assertIs(client.incoming, Incoming.RESET)

    def test_reset_of_a_paused_client(self: ForwarderCase) -> None:
        """A client nobody reads from, because the upstream takes no more, resets: that is seen."""
        self.play(
            ["hear stopped", "fill", "reset", "say gone"],
            ["stop reading", "say stopped", "hear gone", "expect reset within 10s"],
            options="linger=300ms",
            reason="CD",
        )

    def test_reset_of_a_paused_upstream(self: ForwarderCase) -> None:
        """The mirror."""
        self.play(
            ["stop reading", "say stopped", "hear gone", "expect reset within 10s"],
            ["hear stopped", "fill", "reset", "say gone"],
            options="linger=300ms",
            reason="SD",
        )

    def test_both_reset_at_once(self: ForwarderCase) -> None:
        """Two resets that cross are one broken session."""
        self.play(
            ["send 10", "expect 10", "say one", "hear two", "reset"],
            ["send 10", "expect 10", "say two", "hear one", "reset"],
            reason=("CD", "SD", "BD"),
        )

    def test_reset_after_a_half_close(self: ForwarderCase) -> None:
        """The client has ended; the upstream breaks off its answer: reset, not end."""
        self.play(
            ["send 10", "end", "expect 10", "say got", "expect reset within 10s"],
            ["expect 10", "expect end", "send 10", "hear got", "reset"],
            reason="SH",
        )

    def test_reset_of_a_client_that_has_ended(self: ForwarderCase) -> None:
        """The client ends, then is gone for good while the answer is on its way."""
        self.play(
            ["send 10", "end", "expect 10", "reset", "say gone"],
            ["expect 10", "expect end", "send 10", "hear gone", "offer 64MiB", "expect reset within 10s"],
            reason="CH",
        )

    def test_end_before_the_dial_completes(self: ForwarderCase) -> None:
        """The client has said all and ended before the upstream answers the dial: all of it arrives."""
        listener = self.listener(backlog=0)
        fillers = listener.fill_queue()
        for filler in fillers:
            self.addCleanup(filler.close)
        address = listener.address
        if self.relay_option != "none":
            forwarder = self.forwarder(f"case: 127.0.0.1:0 -> {address} {self.options()}\n")
            descriptors = forwarder.open_descriptors()
            address = forwarder.address("case")
        steps = ["send 10KiB", "end", "say ended", "read to end"]
        # Without a forwarder the client's own dial would wait for the mark it says after it.
        after = None if self.relay_option == "none" else "ended"
        client = Dialer(address, *steps)
        upstream = listener.peer("read to end", "send 10", "end", after=after, skip=len(fillers))
        converse(client, upstream)
        self.assertEqual((upstream.received.count, client.received.count), (10240, 10))
        if self.relay_option != "none":
            (line,) = forwarder.access_lines(1)
            self.assert_session(line, client, upstream, "--", orderly=True)
            self.assert_settled(forwarder, descriptors)


class DirectEndTests(EndCases, ForwarderCase):
    """Without a forwarder."""

    relay_option = "none"


class TimedEndCases:
    """Ends that the forwarder decides by its clock or holds back; there is no such thing without one."""

    def test_bytes_before_a_reset_to_a_slow_reader(self: ForwarderCase) -> None:
        """The reset waits until the reader has everything, even if the kernel could not give it at once."""
        client, _ = self.play(
            [
                "stop reading",
                "send 10",
                "say stopped",
                "hear gone",
                "expect nothing for 500ms",
                "resume reading",
                "read to reset",
            ],
            ["expect 10", "hear stopped", "send 32KiB", "reset", "say gone"],
            reason="SD",
            client_buffers=4096,
        )
        self.assertEqual(client.received.count, 32768)

    def test_a_reader_that_stays_stopped_after_a_reset(self: ForwarderCase) -> None:
        """The reset waits for ``linger`` at most."""
        self.play(
            ["stop reading", "say stopped", "expect reset within 10s"],
            ["hear stopped", "fill", "reset"],
            options="linger=500ms",
            reason="SD",
        )

    def test_silent_after_the_client_ended(self: ForwarderCase) -> None:
        """The open direction is silent for ``half-close``: the session ends, and looks broken."""
        self.play(
            ["send 10", "end", "expect reset within 10s"],
            ["expect 10", "expect end", "expect reset within 10s"],
            options="half-close=1s",
            reason="sH",
        )

    def test_silent_after_the_upstream_ended(self: ForwarderCase) -> None:
        """The mirror."""
        self.play(
            ["expect 10", "expect end", "expect reset within 10s"],
            ["send 10", "end", "expect reset within 10s"],
            options="half-close=1s",
            reason="cH",
        )

    def test_dripping_after_the_client_ended(self: ForwarderCase) -> None:
        """An open direction that drips is never cut."""
        self.play(
            ["end", "expect 9", "expect end"],
            ["expect end", "drip 9 every 400ms", "end"],
            options="half-close=2s",
        )

    def test_dripping_after_the_upstream_ended(self: ForwarderCase) -> None:
        """The mirror."""
        self.play(
            ["expect end", "drip 9 every 400ms", "end"],
            ["end", "expect 9", "expect end"],
            options="half-close=2s",
        )

    def test_idle_upstream(self: ForwarderCase) -> None:
        """Nobody says anything for ``idle``, after a question: the upstream was the one to speak."""
        self.play(
            ["send 10", "expect reset within 10s"],
            ["expect 10", "expect reset within 10s"],
            options="idle=1s",
            reason="sD",
        )

    def test_idle_client(self: ForwarderCase) -> None:
        """Nobody says anything for ``idle``, after a banner: the client was the one to speak."""
        self.play(
            ["expect 10", "expect reset within 10s"],
            ["send 10", "expect reset within 10s"],
            options="idle=1s",
            reason="cD",
        )

    def test_not_idle(self: ForwarderCase) -> None:
        """A byte now and then, in one direction, keeps a session for ever."""
        self.play(["drip 9 every 400ms", "end", "expect end"], ["read to end", "end"], options="idle=2s")


class AutoEndTests(EndCases, TimedEndCases, ForwarderCase):
    """``relay=auto``."""

    relay_option = "auto"


class PairEndTests(EndCases, TimedEndCases, ForwarderCase):
    """``relay=pair``."""

    relay_option = "pair"


class CopyEndTests(EndCases, TimedEndCases, ForwarderCase):
    """``relay=copy``, which is how ``auto`` begins: by itself in the deep profile only."""

    relay_option = "copy"

    def setUp(self) -> None:
        """Skip unless the long versions were asked for."""
        needs_deep()
        super().setUp()


class SpliceEndTests(EndCases, TimedEndCases, ForwarderCase):
    """``relay=splice``."""

    relay_option = "splice"


class ShownEndTests(EndCases, TimedEndCases, ForwarderCase):
    """With a filter that looks at every byte: in the deep profile only; `tests.relay` has them always."""

    passing = "PassThrough"

    def setUp(self) -> None:
        """Skip unless the long versions were asked for."""
        needs_deep()
        super().setUp()


class DoneEndTests(EndCases, TimedEndCases, ForwarderCase):
    """With a filter that has seen enough with the first bytes: likewise."""

    passing = "DoneAtOnce"

    def setUp(self) -> None:
        """Skip unless the long versions were asked for."""
        needs_deep()
        super().setUp()
