"""Tests of ``portfwd tap``."""

from __future__ import annotations

import base64
import json

from portfwd.cli.control import Control
from tests.cli.scripted import ControlTestCase


def piece(direction: str, offset: int, data: bytes) -> dict[str, object]:
    """An event."""
    return {"direction": direction, "offset": offset, "data": base64.b64encode(data).decode()}


class TapTests(ControlTestCase):
    """Bytes, as they come."""

    def test_dump(self) -> None:
        """A hexdump with the direction before each line; how it ended stands on standard error."""
        events = [piece("to-upstream", 0, b"GET / HTTP/1.1\r\n"), piece("to-client", 5, b"\x1b[2J")]
        self.forwarder.says("tap", {"ended": "limit", "missed": 0}, events=events)
        code, out, err = self.run_there("tap", "7", "--limit", "1KiB", "--direction", "up")
        self.assertEqual(code, 0)
        self.assertEqual(
            out,
            "> 00000000  47 45 54 20 2f 20 48 54  54 50 2f 31 2e 31 0d 0a  |GET / HTTP/1.1..|\n"
            "< 00000005  1b 5b 32 4a                                       |.[2J|\n",
        )
        self.assertEqual(err, "portfwd tap: the limit is reached\n")
        self.assertEqual(
            self.forwarder.lines(), [("tap", ("7",), {"limit": "1KiB", "direction": "to-upstream"})]
        )

    def test_missed(self) -> None:
        """What was missed is told."""
        self.forwarder.says("tap", {"ended": "closed", "missed": 9})
        self.assertEqual(
            self.run_there("tap", "7")[2], "portfwd tap: the session has ended, 9 bytes missed\n"
        )

    def test_json(self) -> None:
        """For programs: a line for each event, and the end."""
        self.forwarder.says("tap", {"ended": "limit", "missed": 0}, events=[piece("to-upstream", 0, b"x")])
        _, out, err = self.run_there("tap", "7", "--json")
        one, two = map(json.loads, out.splitlines())
        self.assertEqual((one["offset"], two["result"]["ended"], err), (0, "limit", ""))

    def test_interrupted(self) -> None:
        """Ctrl-C is how it usually ends."""

        def interrupted(*arguments: object) -> None:
            raise KeyboardInterrupt

        self.patch(Control, "watch", interrupted)
        self.assertEqual(self.run_there("tap", "7"), (0, "", ""))
