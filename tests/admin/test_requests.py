"""Tests of the requests of the control socket."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.requests import MAX_LINE, Request, RequestError, read_request, write_request

words = st.text(st.characters(), max_size=12) | st.text(st.sampled_from('ab =#"\\\t\x1b\x85é,;'), max_size=8)


class ReadTests(SynchronousTestCase):
    """Lines in, requests out."""

    def test_words_and_options(self) -> None:
        """The first word is the command; of the others those with an equals sign are options."""
        self.assertEqual(
            read_request(b'faults "my lab" 1 set delay=100ms'),
            Request("faults", ("my lab", "1", "set"), {"delay": "100ms"}),
        )

    def test_nothing(self) -> None:
        """A line without words is no request."""
        for line in (b"", b"   ", b"# a comment"):
            self.assertIsNone(read_request(line))

    def test_refused(self) -> None:
        """What is too long, no UTF-8, ambiguous or invisible is refused, with a word for programs."""
        for line, code in (
            (b"x" * (MAX_LINE + 1), "line-too-long"),
            (b"rules \xff", "bad-request"),
            (b"sessions limit=1 limit=2", "bad-request"),
            (b'session "7', "bad-request"),
            (b"session \x1b[2J", "bad-request"),
        ):
            error = self.assertRaises(RequestError, read_request, line)
            self.assertEqual(error.code, code, line)

    @settings(max_examples=200)
    @given(st.binary(max_size=60))
    def test_any_bytes(self, line: bytes) -> None:
        """No line raises anything but `RequestError`."""
        try:
            read_request(line)
        except RequestError as refused:
            self.assertTrue(refused.code)


class WriteTests(SynchronousTestCase):
    """Requests in, lines out."""

    def test_plain(self) -> None:
        """What needs no quotes has none."""
        self.assertEqual(write_request("kill", ("7", "8")), b"kill 7 8\n")
        self.assertEqual(write_request("sessions", (), {"rule": "my web"}), b'sessions rule="my web"\n')

    @settings(max_examples=200)
    @given(st.lists(words, max_size=3), st.dictionaries(st.sampled_from(["rule", "client"]), words))
    def test_read_back(self, plain: list[str], options: dict[str, str]) -> None:
        """What can be written at all is read back as it was."""
        try:
            line = write_request("kill", plain, options)
        except RequestError as refused:
            self.assertEqual(refused.code, "bad-request")
            return
        self.assertEqual(read_request(line.removesuffix(b"\n")), Request("kill", tuple(plain), options))

    def test_too_long(self) -> None:
        """A line that would not be read is not written."""
        error = self.assertRaises(RequestError, write_request, "session", ("7" * MAX_LINE,))
        self.assertEqual(error.code, "line-too-long")

    def test_no_text(self) -> None:
        """What is no Unicode text is refused: a word of a command line may be any bytes."""
        self.assertRaises(RequestError, write_request, "session", ("\udcff",))
