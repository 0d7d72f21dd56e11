"""Tests of `portfwd.wire.reading`: what readers answer, and lengths within lengths."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.wire import TooLong, WireError
from portfwd.wire.reading import Span


class SpanTests(SynchronousTestCase):
    """Bytes whose number is known, taken from the front."""

    def test_take(self) -> None:
        """Numbers have their highest byte first; a length takes as many bytes as it says."""
        span = Span(b"\x01\x02\x00\x03abc\xffrest", "it")
        self.assertEqual(span.number(2), 0x0102)
        inner = span.span(2)
        self.assertEqual((inner.take(1), inner.rest()), (b"a", b"bc"))
        self.assertFalse(inner)
        inner.finish()
        self.assertEqual((span.take(1), bool(span), span.rest()), (b"\xff", True, b"rest"))

    def test_too_short(self) -> None:
        """Taking more than there is is an error that says what was read."""
        for attempt in (lambda span: span.take(4), lambda span: span.number(4), lambda span: span.span(1)):
            error = self.assertRaises(WireError, attempt, Span(b"\x04ab", "the list"))
            self.assertEqual(str(error), "the list ends before its fields do")

    def test_finish(self) -> None:
        """Bytes that are left where none should be are an error."""
        error = self.assertRaises(WireError, Span(b"a", "the list").finish)
        self.assertEqual(str(error), "the list has bytes behind its end")

    def test_errors(self) -> None:
        """Whoever catches ValueError or WireError catches what is too long, too."""
        self.assertTrue(issubclass(TooLong, WireError))
        self.assertTrue(issubclass(WireError, ValueError))
