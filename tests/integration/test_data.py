"""
Bytes: any number, in writes of any size, in both directions, arrive as they were sent.

Each case is also played without a forwarder, where only the script itself can be wrong.
"""

from __future__ import annotations

from portfwd.values import InetAddress, UnixAddress
from tests.integration.case import ForwarderCase, deep, needs_deep


class DataCases:
    """Every relay must pass these."""

    def test_bulk_both_ways(self: ForwarderCase) -> None:
        """64 MiB each way at once, in writes of random sizes: equal hashes."""
        steps = ["send 64MiB in writes of 1-131072", "end", "read to end"]
        client, upstream = self.play(steps, steps, step_deadline=120)
        self.assertEqual(client.received.count, 64 * 1024**2)
        self.assertEqual(upstream.received.sha256, client.sent.sha256)

    def test_gigabyte_both_ways(self: ForwarderCase) -> None:
        """1 GiB each way at once, in writes of random sizes: equal hashes."""
        needs_deep()
        steps = ["send 1GiB in writes of 1-131072", "end", "read to end"]
        client, upstream = self.play(steps, steps, step_deadline=600)
        self.assertEqual(client.received.count, 1024**3)
        self.assertEqual(upstream.received.sha256, client.sent.sha256)

    def test_one_byte_writes(self: ForwarderCase) -> None:
        """Single bytes, thousands of them."""
        count = 100_000 if deep() else 5_000
        self.play(
            [f"send {count} in writes of 1", "end", "expect end"],
            ["read to end", "end"],
            step_deadline=120,
        )

    def test_small_slices(self: ForwarderCase) -> None:
        """Writes of 1 to 7 bytes, both ways at once."""
        steps = ["send 16KiB in writes of 1-7", "end", "read to end"]
        self.play(steps, steps)

    def test_server_speaks_first(self: ForwarderCase) -> None:
        """A banner reaches a client that has said nothing."""
        self.play(
            ['expect "220 ready\\r\\n" within 10s', 'send "QUIT\\r\\n"', "end", "expect end"],
            ['send "220 ready\\r\\n"', 'expect "QUIT\\r\\n"', "expect end", "end"],
        )

    def test_many_questions_and_answers(self: ForwarderCase) -> None:
        """Request and response take turns on one connection."""
        client = ["send 100", "expect 2000"] * 200 + ["end", "expect end"]
        upstream = ["expect 100", "send 2000"] * 200 + ["expect end", "end"]
        self.play(client, upstream)

    def test_no_bytes_at_all(self: ForwarderCase) -> None:
        """A connection that is opened and ended is a session of zero bytes."""
        self.play(["end", "expect end"], ["expect end", "end"])

    def test_reader_that_pauses_again_and_again(self: ForwarderCase) -> None:
        """Every buffer fills up, drains and fills up again; not a byte is lost or doubled."""
        rounds = 3
        client = [
            step
            for n in range(rounds)
            for step in ("stop reading", f"say stopped{n}", f"hear full{n}", "resume reading", f"hear go{n}")
        ]
        upstream = [
            step for n in range(rounds) for step in (f"hear stopped{n}", "fill", f"say full{n}", f"say go{n}")
        ]
        self.play([*client, "read to end", "end"], [*upstream, "end", "read to end"])

    def test_small_kernel_buffers(self: ForwarderCase) -> None:
        """Writes the kernel takes in part only are continued where they stopped."""
        steps = ["send 4MiB", "end", "read to end"]
        self.play(
            steps,
            steps,
            options="sndbuf=4096 rcvbuf=4096",
            client_buffers=4096,
            upstream_buffers=4096,
            step_deadline=60,
        )

    def test_small_buffer(self: ForwarderCase) -> None:
        """``buffer=`` bounds a read; it changes nothing else."""
        steps = ["send 2MiB", "end", "read to end"]
        self.play(steps, steps, options="buffer=4KiB")

    def test_ipv6(self: ForwarderCase) -> None:
        """The same over IPv6."""
        steps = ["send 8MiB", "end", "read to end"]
        self.play(steps, steps, over=InetAddress("::1", 0))

    def test_unix(self: ForwarderCase) -> None:
        """The same over unix sockets."""
        steps = ["send 8MiB", "end", "read to end"]
        self.play(steps, steps, over=UnixAddress("path"))


class DirectDataTests(DataCases, ForwarderCase):
    """Without a forwarder."""

    relay_option = "none"


class AutoDataTests(DataCases, ForwarderCase):
    """``relay=auto``."""

    relay_option = "auto"


class PairDataTests(DataCases, ForwarderCase):
    """``relay=pair``."""

    relay_option = "pair"


class CopyDataTests(DataCases, ForwarderCase):
    """``relay=copy``."""

    relay_option = "copy"


class SpliceDataTests(DataCases, ForwarderCase):
    """``relay=splice``."""

    relay_option = "splice"


class ShownDataTests(DataCases, ForwarderCase):
    """With a filter that looks at every byte."""

    passing = "PassThrough"


class DoneDataTests(DataCases, ForwarderCase):
    """With a filter that has seen enough with the first bytes."""

    passing = "DoneAtOnce"
