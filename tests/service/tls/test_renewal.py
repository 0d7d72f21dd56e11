"""Tests of `portfwd.service.tls.renewal`: files are read again in one thread at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.tls.file_watch import FileWatch
from portfwd.service.tls.renewal import Renewal, Renewed, at_once
from tests.service.pems import directory_of


class RenewalTests(SynchronousTestCase):
    """`Renewal`."""

    def setUp(self) -> None:
        """A file, and what is told of it."""
        self.file = directory_of(self) / "file"
        self.file.write_text("one")
        self.calls: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.told: list[Renewed[str]] = []

    def renewal(self, run: Callable[[Callable[[], Any]], Deferred[Any]] | None = None) -> Renewal[str]:
        """Of that file."""
        watch = FileWatch(lambda: [str(self.file)], Clock().seconds)
        return Renewal(watch, run or self.run_later)

    def run_later(self, call: Callable[[], Any]) -> Deferred[Any]:
        """Keep `call` for the test."""
        self.calls.append((call, Deferred()))
        return self.calls[-1][1]

    def do(self) -> None:
        """Run what was kept."""
        call, done = self.calls.pop()
        done.callback(call())

    def test_changed(self) -> None:
        """Files that have changed are read once; those that have not are not read."""
        renewal = self.renewal(at_once)
        renewal.look(self.file.read_text, self.told.append)
        self.file.write_text("other")
        renewal.look(self.file.read_text, self.told.append)
        renewal.look(self.file.read_text, self.told.append)
        renewal.look(self.file.read_text, self.told.append, always=True)
        wanted = [Renewed(False), Renewed(True, "other"), Renewed(False), Renewed(False, "other")]
        self.assertEqual(self.told, wanted)

    def test_not_good(self) -> None:
        """What is wrong with them is told once."""
        renewal = self.renewal(at_once)
        self.file.unlink()
        renewal.look(self.file.read_text, self.told.append)
        renewal.look(self.file.read_text, self.told.append)
        self.assertIn("No such file", self.told[0].problem)
        self.assertEqual(self.told[1], Renewed(False))

    def test_one_at_a_time(self) -> None:
        """While one thread runs no other one is started, even after its time limit."""
        renewal = self.renewal()
        renewal.look(self.file.read_text, self.told.append)
        renewal.look(self.file.read_text, self.told.append)
        self.assertEqual((len(self.calls), repr(renewal)), (1, "<Renewal reading>"))
        call, done = self.calls[0]
        done.errback(TimeoutError("no answer"))
        self.assertEqual(self.told, [Renewed(True, None, "no answer")])
        renewal.look(self.file.read_text, self.told.append)
        self.assertEqual(len(self.calls), 1)
        call()
        renewal.look(self.file.read_text, self.told.append)
        self.assertEqual((len(self.calls), len(self.told)), (2, 1))

    def test_change_while_reading(self) -> None:
        """What changes during the reading is read the next time."""
        renewal = self.renewal()

        def read() -> str:
            text = self.file.read_text()
            self.file.write_text(text + "!")
            return text

        self.file.write_text("other")
        for _ in range(2):
            renewal.look(read, self.told.append)
            self.do()
        self.assertEqual(self.told, [Renewed(True, "other"), Renewed(True, "other!")])
