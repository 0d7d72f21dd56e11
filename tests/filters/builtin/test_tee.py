"""Tests of `portfwd.filters.builtin.tee`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.api import DONE, Copy, Sink
from portfwd.filters.builtin.tee import LIMIT, PLUGIN, TeeOptions
from portfwd.filters.clause_reading import read_options
from portfwd.filters.options import OptionFiles
from portfwd.values import TO_CLIENT, TO_UPSTREAM, InetAddress
from tests.filters.asking import a_connection


class TeeTests(SynchronousTestCase):
    """Copies."""

    def read(self, *pairs: tuple[str, str]) -> Any:
        """The options, or what is wrong with them."""
        return read_options(TeeOptions, (), pairs, OptionFiles(str, lambda path: f"/abs/{path}"))

    def test_shadow(self) -> None:
        """What the client sends is passed, with a copy for the shadow; of the upstream's nothing."""
        factory = PLUGIN.configure(self.read(("to", "[::1]:9000"), ("limit", "2KiB")), ())
        self.assertEqual(factory.directions, {TO_UPSTREAM})
        one = factory.build(a_connection())
        sink = Sink("stream", "[::1]:9000", 2048, address=InetAddress("::1", 9000))
        self.assertEqual(one.received(TO_UPSTREAM, b"x"), (Copy(sink, b"x"), None))
        self.assertIs(one.received(TO_CLIENT, b"x"), DONE)

    def test_file(self) -> None:
        """With ``file=`` the copies go to a file, whose path does not depend on the working directory."""
        one = PLUGIN.configure(self.read(("file", "x.bin"), ("direction", "down")), ()).build(a_connection())
        self.assertEqual(one.received(TO_CLIENT, b"x"), (Copy(Sink("file", "/abs/x.bin", LIMIT), b"x"), None))

    def test_refused(self) -> None:
        """There is one sink, and it has room."""
        for pairs, text in (
            ((), "either to=HOST:PORT or file=PATH"),
            ((("to", "a:1"), ("file", "x")), "either to=HOST:PORT or file=PATH"),
            ((("to", "a:1"), ("limit", "0")), "limit=0"),
        ):
            (problem,) = self.read(*pairs)
            self.assertIn(text, problem.message)
