"""The states of a session: what the table allows, what it refuses, and its drawing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.states import TRANSITIONS, State, diagram, follow


class TableTests(SynchronousTestCase):
    """The table itself."""

    def test_every_state_has_a_row(self) -> None:
        """No state is forgotten."""
        self.assertEqual(set(TRANSITIONS), set(State))

    def test_every_way_ends(self) -> None:
        """There is one last state, no way back, and every state is reached from the first."""
        order = list(State)
        self.assertEqual([state for state in State if not TRANSITIONS[state]], [State.CLOSED])
        for before, following in TRANSITIONS.items():
            for after in following:
                self.assertLess(order.index(before), order.index(after))
        reached = {State.ACCEPTED}.union(*TRANSITIONS.values())
        self.assertEqual(reached, set(State))

    def test_closed_by_way_of_closing(self) -> None:
        """A session is never closed before its reason is fixed."""
        self.assertEqual(
            [before for before, following in TRANSITIONS.items() if State.CLOSED in following],
            [State.CLOSING],
        )

    @given(st.sampled_from(State), st.sampled_from(State))
    def test_follow(self, before: State, after: State) -> None:
        """`follow` gives what the table has, and raises for everything else, naming both."""
        if after in TRANSITIONS[before]:
            self.assertIs(follow(before, after), after)
        else:
            problem = self.assertRaises(ValueError, follow, before, after)
            self.assertIn(before.value, str(problem))
            self.assertIn(after.value, str(problem))


class DiagramTests(SynchronousTestCase):
    """The drawing for the documentation."""

    def test_drawn_from_the_table(self) -> None:
        """Each transition is one arrow, in the order of the states; first and last state are marked."""
        self.assertEqual(
            diagram().splitlines(),
            [
                "stateDiagram-v2",
                "    [*] --> accepted",
                "    accepted --> handshaking",
                "    accepted --> peeking",
                "    accepted --> dialing",
                "    accepted --> closing",
                "    handshaking --> peeking",
                "    handshaking --> dialing",
                "    handshaking --> closing",
                "    peeking --> dialing",
                "    peeking --> closing",
                "    dialing --> relaying",
                "    dialing --> closing",
                "    relaying --> closing",
                "    closing --> closed",
                "    closed --> [*]",
            ],
        )
