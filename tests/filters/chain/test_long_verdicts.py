"""Verdicts with so many items that a chain takes them in parts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import (
    DONE,
    TO_CLIENT,
    TO_UPSTREAM,
    Await,
    Close,
    Copy,
    Delay,
    End,
    Forward,
    NeedMore,
    Release,
    Reply,
    Sink,
)
from portfwd.filters.chain import inquiry
from portfwd.filters.chain.chain import Chain
from portfwd.filters.chain.effects import Effect, Finish, GoOn, SendEnd, Write
from portfwd.filters.chain.under_way import MOST_STEPS
from portfwd.relay.filtered import MOST_EFFECTS
from portfwd.values import CloseReason
from tests.filters.scripted import Scripted, relaying, script, written
from tests.kernel.turning import TurningClock
from tests.relay.test_filtered import FilteredCase

UP, DOWN = TO_UPSTREAM, TO_CLIENT
SINK = Sink("file", "/tmp/copy", 1024)

LETTERS = [bytes([65 + number % 26]) for number in range(3 * MOST_STEPS)]
LONG = [Forward(one) for one in LETTERS]


def to_the_end(chain: Chain, effects: list[Effect]) -> list[Effect]:
    """What `effects` are with those of all the turns that they ask for."""
    found = []
    while effects and effects[-1] == GoOn():
        found += effects[:-1]
        effects = chain.go_on()
    return found + effects


class ChainTests(SynchronousTestCase):
    """What a chain does of them at once, and later."""

    def test_parts(self) -> None:
        """A part is done at once, the others when the chain is called again."""
        chain = relaying(Scripted(received=LONG))
        effects = chain.received(UP, b"x")
        parts = []
        while effects[-1] == GoOn():
            parts.append(written(effects, UP))
            effects = chain.go_on()
        self.assertLessEqual(max(map(len, parts)), MOST_STEPS)
        self.assertEqual(b"".join([*parts, written(effects, UP)]), b"".join(LETTERS))

    def test_behind_another(self) -> None:
        """What a filter behind sees of it comes in parts, too, and in order."""
        last = Scripted()
        chain = relaying(Scripted(received=LONG), last)
        effects = chain.received(UP, b"x")
        self.assertEqual(len(last.seen()), 0)
        self.assertEqual(written(to_the_end(chain, effects), UP), b"".join(LETTERS))
        self.assertEqual(last.seen(), LETTERS)

    def test_end_comes_behind(self) -> None:
        """An end of the direction leaves the filter behind the last item, whatever made the verdict."""
        for event in ("ended", "resumed", "woken"):
            answers: dict[str, Any] = {event: LONG}
            if event == "resumed":
                answers["ended"] = Await(_nothing())
            one = Scripted(**answers)
            chain = relaying(one)
            if event == "woken":
                one.answers["received"] = LONG
                effects = to_the_end(chain, chain.received(UP, b"x"))
                effects += to_the_end(chain, chain.ended(UP))
            else:
                effects = to_the_end(chain, chain.ended(UP))
            if event == "resumed":
                answers["ended"].awaitable.close()
                effects += to_the_end(chain, chain.settled(1, None))
            self.assertEqual(written(effects, UP), b"".join(LETTERS), event)
            self.assertEqual([one for one in effects if isinstance(one, Write | SendEnd)][-1], SendEnd(UP))

    def test_close_within(self) -> None:
        """A `Close` in the middle ends the session there."""
        for abort in (False, True):
            middle = len(LONG) // 2
            chain = relaying(Scripted(received=[*LONG[:middle], Close("enough", abort=abort), *LONG]))
            effects = to_the_end(chain, chain.received(UP, b"x"))
            self.assertEqual(written(effects, UP), b"".join(LETTERS[:middle]))
            self.assertIsInstance(effects[-1], Finish)
            self.assertEqual(chain.go_on(), [])

    def test_over(self) -> None:
        """A chain that is closed meanwhile has nothing more to do."""
        chain = relaying(Scripted(received=LONG))
        chain.received(UP, b"x")
        chain.closed(None)  # type: ignore[arg-type]
        self.assertEqual(chain.go_on(), [])

    def test_two_at_the_start(self) -> None:
        """Filters that are opened in a row each have their whole say."""
        one, other = Scripted(connected=LONG), Scripted(connected=LONG)
        chain = relaying(one, other)
        self.assertEqual(to_the_end(chain, chain.go_on()), [])

    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(
            st.lists(
                st.sampled_from(
                    [
                        b"bytes",
                        Forward(b"forward"),
                        Reply(b"reply"),
                        Delay(1.0, b"delayed"),
                        NeedMore(),
                        NeedMore(rest=b"rest"),
                        Release(UP),
                        End(DOWN),
                        Copy(SINK, b"copy"),
                        DONE,
                        None,
                        Close("enough"),
                    ]
                ),
                max_size=8,
            ),
            min_size=1,
            max_size=3,
        )
    )
    def test_as_at_once(self, verdicts: list[list[Any]]) -> None:
        """In parts it comes to the same as at once."""

        def run(most: int) -> list[Effect]:
            for module in (inquiry, chain_module()):
                self.patch(module, "MOST_STEPS", most)
            chain = relaying(Scripted(received=script(*map(list, verdicts))), Scripted())
            effects: list[Effect] = []
            for number in range(len(verdicts)):
                effects += to_the_end(chain, chain.received(UP, b"%d" % number))
            return effects + to_the_end(chain, chain.ended(UP))

        self.assertEqual(run(1), run(MOST_STEPS))


def chain_module() -> Any:
    """The module of `Chain`, whose name the package's has."""
    from portfwd.filters.chain import chain

    return chain


async def _nothing() -> None:
    """A result that comes when the test says so."""


class SessionTests(FilteredCase):
    """A session, beside others."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = TurningClock()

    def turns(self) -> list[int]:
        """Bytes that the upstream had after each turn, until nothing is left to do."""
        found = [len(self.upstream.written)]
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.calls):
            self.clock.turn()
            found.append(len(self.upstream.written))
        return found

    def test_turns(self) -> None:
        """Others have a turn between the parts, and nothing is read meanwhile."""
        self.relaying(Scripted(received=LONG))
        self.client.says(b"x")
        self.assertTrue(self.client.on_hold and self.upstream.on_hold)
        sizes = self.turns()
        grown = [after - before for before, after in pairwise([0, *sizes])]
        self.assertLessEqual(max(grown), MOST_STEPS)
        self.assertEqual(self.upstream.written, b"".join(LETTERS))
        self.assertFalse(self.client.on_hold or self.upstream.on_hold)

    def test_meanwhile(self) -> None:
        """What happens meanwhile is told behind it, in order."""
        session = self.relaying(one := Scripted(received=script(LONG, b"second")))
        self.client.says(b"x")
        session.shown(self.client, b"y")  # a transport may have had it already
        self.client.ends()
        self.assertEqual((one.seen(), one.told("ended")), ([b"x"], 0))
        self.turns()
        self.assertEqual(self.upstream.written, b"".join(LETTERS) + b"second")
        self.assertEqual((one.seen(), one.told("ended")), ([b"x", b"y"], 1))

    def test_a_filter_that_stops(self) -> None:
        """A side that a filter wants unread stays so afterwards."""
        self.relaying(Scripted(received=[*LONG, Await(_nothing(), directions=UP)]))
        self.client.says(b"x")
        for _ in range(20):
            self.clock.turn()
        self.assertEqual(self.upstream.written, b"".join(LETTERS))

    def test_lost_meanwhile(self) -> None:
        """What came before a reset is delivered first."""
        self.relaying(Scripted(received=LONG))
        self.client.says(b"x")
        self.client.resets()
        self.assertEqual(self.lines.reasons, [])
        self.turns()
        self.assertEqual(self.upstream.written, b"".join(LETTERS))
        self.assertEqual(self.lines.reasons, [CloseReason.CLIENT_RESET])

    def test_killed_meanwhile(self) -> None:
        """A session that is ended meanwhile leaves nothing behind."""
        session = self.relaying(Scripted(received=LONG))
        self.client.says(b"x")
        session.kill(CloseReason.KILLED)
        self.turns()
        self.assertLess(len(self.upstream.written), len(LETTERS))
        self.assertEqual(self.lines.reasons, [CloseReason.KILLED])

    def test_before_the_upstream(self) -> None:
        """Others have turns while what waited for the upstream is written to it; a reset waits as well."""
        count = 3 * MOST_EFFECTS
        for resets in (False, True):
            self.setUp()
            self.accept(Scripted(received=[Forward(b"x")] * count))
            self.client.says(b"x")
            self.turns_of_filters()
            if resets:
                self.client.resets()
            self.connect()
            sizes = self.turns()
            grown = [after - before for before, after in pairwise([0, *sizes])]
            self.assertLessEqual(max(grown), MOST_EFFECTS)
            self.assertEqual(len(self.upstream.written), count)
            self.assertEqual(self.lines.reasons, [CloseReason.CLIENT_RESET] if resets else [])

    def turns_of_filters(self) -> None:
        """Let the filters have their turns before the upstream is there."""
        for _ in range(20):
            self.clock.turn()
