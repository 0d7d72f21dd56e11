"""Tests of `portfwd.listen.held_datagrams`: a bounded queue."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.listen.held_datagrams import OVERHEAD, HeldDatagram, HeldDatagrams


def datagram(data: bytes) -> HeldDatagram[str]:
    """One of a client."""
    return HeldDatagram("listener", "key", ("127.0.0.1", 5), (), data)


class QueueTests(SynchronousTestCase):
    """`HeldDatagrams`."""

    def test_order(self) -> None:
        """The oldest comes first."""
        queue: HeldDatagrams[str] = HeldDatagrams()
        for data in (b"one", b"two"):
            self.assertTrue(queue.add(datagram(data), 10_000))
        self.assertEqual((len(queue), repr(queue)), (2, "<HeldDatagrams 2 of 1030 bytes, 0 dropped>"))
        self.assertEqual(
            [queue.take(), queue.take(), queue.take()], [datagram(b"one"), datagram(b"two"), None]
        )

    def test_bound(self) -> None:
        """A datagram counts its bytes and an overhead; one that does not fit is dropped and counted."""
        queue: HeldDatagrams[str] = HeldDatagrams()
        most = 2 * OVERHEAD + 10
        self.assertTrue(queue.add(datagram(bytes(5)), most))
        self.assertFalse(queue.add(datagram(bytes(6)), most))
        self.assertTrue(queue.add(datagram(bytes(5)), most))
        self.assertFalse(queue.add(datagram(b""), most))
        self.assertEqual(queue.dropped, 2)
        queue.take()
        self.assertTrue(queue.add(datagram(bytes(5)), most))

    def test_clear(self) -> None:
        """What is left is dropped and counted; the queue has room again."""
        queue: HeldDatagrams[str] = HeldDatagrams()
        queue.add(datagram(b"x"), OVERHEAD + 1)
        queue.clear()
        self.assertEqual((len(queue), queue.dropped), (0, 1))
        self.assertTrue(queue.add(datagram(b"x"), OVERHEAD + 1))
