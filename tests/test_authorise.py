"""The filter of the guide that asks a service does what the guide says."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import TO_UPSTREAM
from portfwd.testing import Pipe
from tests.test_first_filter import LISTINGS, load


class AuthoriseTests(SynchronousTestCase):
    """Who is let in."""

    def assert_refused(self, pipe: Pipe, detail: str) -> None:
        """Nothing was passed on, and the closing line says why."""
        finished = pipe.outcome.finished
        assert finished is not None
        self.assertEqual((pipe.to_upstream, pipe.to_client, finished.detail), (b"", b"", detail))

    def asked(self, answer: object) -> Pipe:
        """A connection whose client speaks at once, when the service has answered."""
        pipe = Pipe(load(LISTINGS / "authorise.py").Authorise)
        pipe.send(TO_UPSTREAM, b"hello")
        self.assertEqual(pipe.to_upstream, b"")
        pipe.settle(answer)
        return pipe

    def test_allowed(self) -> None:
        """A client that the service allows is let in, with what it has said already."""
        self.assertEqual(self.asked(True).to_upstream, b"hello")

    def test_refused(self) -> None:
        """Nothing of a client that the service does not allow reaches the upstream."""
        self.assert_refused(self.asked(False), "not authorised")

    def test_no_answer(self) -> None:
        """Without an answer nobody is let in."""
        self.assert_refused(self.asked(OSError("down")), "cannot ask: down")
