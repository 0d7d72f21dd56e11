"""Tests of `portfwd.limits.occupancy`: a count, and who waits for it to fall."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.limits.occupancy import Occupancy


class OccupancyTests(SynchronousTestCase):
    """Who leaves lets one in."""

    def setUp(self) -> None:
        self.woken: list[str] = []
        self.occupancy = Occupancy()
        self.occupancy.taken = 3

    def waiter(self, name: str) -> None:
        """Somebody who waits."""
        self.occupancy.wait(lambda: self.woken.append(name))

    def test_one_for_one(self) -> None:
        """For one that leaves one is woken, who waited longest."""
        for name in "abc":
            self.waiter(name)
        self.assertEqual(repr(self.occupancy), "<Occupancy 3 in, 3 waiting>")
        self.occupancy.give_back()
        self.assertEqual((self.woken, self.occupancy.taken), (["a"], 2))
        self.occupancy.give_back()
        self.occupancy.give_back()
        self.assertEqual((self.woken, self.occupancy.taken), (["a", "b", "c"], 0))

    def test_nobody_waits(self) -> None:
        """To wake somebody where nobody waits is fine."""
        self.occupancy.wake_one()
        self.occupancy.give_back()
        self.assertEqual(self.occupancy.taken, 2)

    def test_forget(self) -> None:
        """Who is forgotten is not woken; who never waited may be forgotten."""

        def wake() -> None:
            self.woken.append("forgotten")

        self.occupancy.wait(wake)
        self.waiter("other")
        self.occupancy.forget(wake)
        self.occupancy.forget(wake)
        self.occupancy.wake_one()
        self.assertEqual(self.woken, ["other"])

    def test_waits_again(self) -> None:
        """Who finds the place taken when he is woken may wait again, at the end."""

        def again() -> None:
            self.woken.append("again")
            self.occupancy.wait(again)

        self.occupancy.wait(again)
        self.waiter("other")
        for _ in range(3):
            self.occupancy.wake_one()
        self.assertEqual(self.woken, ["again", "other", "again"])
