"""The listing of a filter that counts: metrics, notes, and the contract."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import TO_UPSTREAM, Services
from portfwd.testing import Pipe, check_filter
from portfwd.testing.outcome import Notes

LISTINGS = Path(__file__).resolve().parents[1] / "docs" / "listings"


class CountingTests(SynchronousTestCase):
    """``docs/listings/counting.py``."""

    def setUp(self) -> None:
        """Import it."""
        self.patch(sys, "path", [os.fspath(LISTINGS), *sys.path])
        self.addCleanup(sys.modules.pop, "counting", None)
        self.counting: Any = __import__("counting")
        self.services = Services(Clock(), Clock(), Notes(), "web", "counting")

    def factory(self) -> Any:
        """A factory that was started."""
        made = self.counting.CountingFactory()
        made.start(self.services)
        return made

    def test_counts(self) -> None:
        """Commands are counted by name, and noted by number."""
        pipe = Pipe(self.factory())
        pipe.send(TO_UPSTREAM, b"GET a\nget b\nSE", b"T c\n")
        ((metric,),) = self.services.metrics.families()
        self.assertEqual({labels[-1]: value for labels, value in metric.samples()}, {"get": 2, "set": 1})
        self.assertEqual(pipe.chain.stages[0].connection.notes, {"commands": 3})
        self.assertEqual(pipe.to_upstream, b"GET a\nget b\nSET c\n")

    def test_contract(self) -> None:
        """It keeps the contract."""
        check_filter(self.factory, [b"GET a\nSET b c\n"])
