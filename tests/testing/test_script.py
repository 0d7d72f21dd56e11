"""Tests for the language of scripted peers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial import unittest

from portfwd.testing import script
from portfwd.testing.script import ScriptError, Step, parse_script, parse_step


class ParseTests(unittest.SynchronousTestCase):
    """Text to steps and back."""

    def check(self, text: str, step: Step) -> None:
        """`text` means `step`, and `step` prints as `text`."""
        self.assertEqual(parse_step(text), step)
        self.assertEqual(str(step), text)

    def test_every_form(self) -> None:
        """Each form of the table reads and prints the same."""
        self.check("send 1MiB", script.Send(1048576))
        self.check("send 64KiB in writes of 1-7", script.Send(65536, (1, 7)))
        self.check("send 100 in writes of 1", script.Send(100, (1, 1)))
        self.check('send "a b\\r\\n"', script.Send(b"a b\r\n"))
        self.check('send "say \\"hi\\""', script.Send(b'say "hi"'))
        self.check("offer 64MiB", script.Send(64 * 1024**2, None, True))
        self.check("send up to 50MiB", script.SendUpTo(50 * 1024**2))
        self.check("fill", script.Fill())
        self.check("drip 5 every 200ms", script.Drip(5, 0.2))
        self.check("end", script.ScriptEnd())
        self.check("reset", script.ScriptReset())
        self.check("close", script.ScriptClose())
        self.check("stop reading", script.StopReading())
        self.check("resume reading", script.ResumeReading())
        self.check("expect 1KiB", script.Expect(1024))
        self.check('expect "x"', script.Expect(b"x"))
        self.check("expect nothing for 300ms", script.ExpectNothing(0.3))
        self.check("expect end", script.ExpectClose("end"))
        self.check("expect reset", script.ExpectClose("reset"))
        self.check("read to close", script.ExpectClose("close", True))
        self.check("say ready", script.Say("ready"))
        self.check("hear ready", script.Hear("ready"))

    def test_a_deadline_of_its_own(self) -> None:
        """Any step may end in ``within``."""
        self.check("expect end within 2s", script.ExpectClose("end", within=2.0))
        self.check('send "x" within 50ms', script.Send(b"x", within=0.05))

    def test_within_in_a_text_is_text(self) -> None:
        """Quoted words are never read as a deadline."""
        self.check('send "come within 2s"', script.Send(b"come within 2s"))

    @settings(max_examples=100)
    @given(st.binary(max_size=20))
    def test_any_bytes_can_be_written(self, data: bytes) -> None:
        """Bytes print as text that reads back the same."""
        step = script.Expect(data)
        self.assertEqual(parse_step(str(step)), step)

    def test_what_is_no_step(self) -> None:
        """The message quotes the line."""
        for text in (
            "sned 1MiB",
            "send",
            "send lots",
            "drip 3",
            "expect 5 5",
            "",
            'send "\\x"',
            "end within ever",
        ):
            error = self.assertRaises(ScriptError, parse_step, text)
            self.assertIn(repr(text), str(error))

    def test_write_sizes_make_sense(self) -> None:
        """A write has at least one byte, and the smallest comes first."""
        for sizes in ("0", "7-1"):
            error = self.assertRaises(ScriptError, parse_step, f"send 10 in writes of {sizes}")
            self.assertIn("write sizes", str(error))

    def test_a_script_is_a_step_a_line(self) -> None:
        """Blank lines and comments are skipped."""
        text = """
            # the client
            send 1MiB
            end

            expect end
        """
        self.assertEqual(
            parse_script(text), (script.Send(1048576), script.ScriptEnd(), script.ExpectClose("end"))
        )

    def test_the_base_has_no_text(self) -> None:
        """A kind of step that forgets its text is found at once."""
        self.assertRaises(NotImplementedError, str, Step())
