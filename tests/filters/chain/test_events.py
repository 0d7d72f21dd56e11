"""Tests of `portfwd.filters.events`: the table of events agrees with what the chain does."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import (
    NEED_MORE,
    TO_CLIENT,
    TO_UPSTREAM,
    Await,
    Direction,
    Forward,
    IFilter,
    Reply,
    Verdict,
    Wake,
)
from portfwd.filters.api import IFailing
from portfwd.filters.events import EVENTS
from portfwd.testing import Pipe
from tests.filters.scripted import Scripted

UP, DOWN = TO_UPSTREAM, TO_CLIENT
WORDS = {"to the upstream": UP, "to the client": DOWN}


class Answering(Scripted):
    """A filter with all methods that there are."""

    def failed(self, error: BaseException) -> Verdict:
        """See `IFailing`."""
        return self._answer("failed", error)  # type: ignore[no-any-return]


def session(event: str, verdict: Any, direction: Direction = UP) -> Pipe:
    """A session in which `event` has happened, in `direction`, and was answered by `verdict`."""
    once = iter([verdict])
    answers: dict[str, Any] = {event: lambda *_: next(once, None)}
    if event != "received":
        answers["received"] = None
    if event in ("resumed", "failed"):
        awaited = succeed(1) if event == "resumed" else fail(ValueError("no"))
        turns = iter([Await(awaited)])
        answers["received"] = lambda *_: next(turns, None)
    if event == "woken":
        turns_ = iter([[Wake(1), NEED_MORE]])
        answers["received"] = lambda *_: next(turns_, None)
    pipe = Pipe(Answering(**answers), connects=event != "dial_failed", strict=False)
    if event == "dial_failed":
        pipe.fail()
    elif event in ("received", "resumed", "failed", "woken"):
        pipe.send(direction, b"data")
        pipe.advance(1)
    elif event == "ended":
        pipe.end(direction)
    return pipe


class TableTests(SynchronousTestCase):
    """Each row."""

    def test_complete(self) -> None:
        """Every method of a filter has a row, with its arguments."""
        described = {**dict(IFilter.namesAndDescriptions()), **dict(IFailing.namesAndDescriptions())}
        calls = {f"{name}{one.getSignatureString()}" for name, one in described.items()}
        self.assertEqual({row.call for row in EVENTS}, calls)

    def test_onward_and_back(self) -> None:
        """Bytes and replies go where the table says."""
        for row in EVENTS[:-1]:
            event = row.call.partition("(")[0]
            for direction in (UP, DOWN) if "direction" in row.call or "as of" in row.onward else (UP,):
                other = DOWN if direction is UP else UP
                expected = {
                    "nowhere": None, "to the upstream": UP, "to the upstream, once it is there": UP,
                    "in `direction`": direction, "in `direction`, before the end": direction,
                }.get(row.onward, direction)  # fmt: skip
                back = {"to the client": DOWN}.get(row.back, other)
                pipe = session(event, [Forward(b"<onward>"), Reply(b"<back>")], direction)
                for where, mark in ((expected, b"<onward>"), (back, b"<back>")):
                    got = {one for one in Direction if mark in pipe.output(one)}
                    self.assertEqual(got, {where} - {None}, (row.call, direction, mark))

    def test_pauses(self) -> None:
        """An `Await` pauses what the table says."""
        for event, direction, paused in (
            ("opened", UP, {UP, DOWN}),
            ("connected", UP, {UP, DOWN}),
            ("received", UP, {UP}),
            ("received", DOWN, {DOWN}),
            ("resumed", UP, {UP}),
            ("resumed", DOWN, {DOWN}),
            ("failed", DOWN, {DOWN}),
            ("woken", DOWN, {DOWN}),
        ):
            waited: Deferred[object] = Deferred()
            pipe = session(event, Await(waited), direction)
            self.assertEqual(pipe.stopped, paused, (event, direction))
            waited.callback(None)
            self.assertEqual(pipe.stopped, set(), (event, direction))
        waited = Deferred()
        pipe = session("ended", Await(waited))
        self.assertEqual(pipe.ended, set())
        waited.callback(None)
        self.assertEqual(pipe.ended, {UP})

    def test_woken_from_outside(self) -> None:
        """`connection.wake` is answered toward the upstream."""
        pipe = Pipe(Answering(woken=[Forward(b"<onward>"), Reply(b"<back>")]))
        pipe.chain.stages[0].connection.wake("now")
        self.assertEqual((pipe.to_upstream, pipe.to_client), (b"<onward>", b"<back>"))
