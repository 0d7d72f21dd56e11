"""What every reader of `portfwd.wire` is held to, whatever it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.wire import Need, Read, WireError

Reader = Callable[[bytes], Any]


class ReaderTestCase(SynchronousTestCase):
    """Asks a reader the same in every way in which bytes can come."""

    def read(self, reader: Reader, data: bytes) -> Any:
        """
        Read `data`, which is exactly one message, and return its value.

        Every shorter prefix has to be answered with a `Need` that is neither met already nor more
        than there will be, so that whoever waits for it gets on; bytes behind the message change nothing.
        """
        answer = reader(data)
        self.assertIsInstance(answer, Read, data)
        self.assertEqual(answer.used, len(data), data)
        for length in self._lengths(len(data)):
            need = reader(data[:length])
            self.assertIsInstance(need, Need, data[:length])
            self.assertGreater(need.total, length, data[:length])
            self.assertLessEqual(need.total, len(data), data[:length])
        for tail in (b"\0", b"\r\n", data, b"GET / HTTP/1.1\r\n"):
            self.assertEqual(reader(data + tail), answer)
        return answer.value

    @staticmethod
    def _lengths(total: int) -> list[int]:
        """Every length below `total`, or a good part of them where that would take long."""
        if total <= 600:
            return list(range(total))
        return [*range(200), *range(200, total - 200, 97), *range(total - 200, total)]

    def refuse(self, reader: Reader, data: bytes, part: str, kind: type[WireError] = WireError) -> None:
        """Expect an error of exactly the class `kind` with `part` in its text, which shows no bytes."""
        error = self.assertRaises(WireError, reader, data)
        self.assertIs(type(error), kind, data)
        self.assertIn(part, str(error))
        self.assertTrue(str(error).isascii())
        self.assertTrue(str(error).isprintable())

    def survive(self, reader: Reader, data: bytes) -> None:
        """Expect one of the three answers for any bytes, and the same one however they are split."""
        try:
            answer = reader(data)
        except WireError:
            return
        if isinstance(answer, Need):
            self.assertGreater(answer.total, len(data))
            return
        self.assertIsInstance(answer, Read)
        self.assertTrue(0 < answer.used <= len(data))
        self.read(reader, data[: answer.used])
