"""Tests of `portfwd.service.datagrams`; what its listeners do is tested with them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import StartError
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.rules import parse
from portfwd.service.build import Binder, live_rules
from tests.service.worlds import Lines, a_world


class WithoutEpollTests(SynchronousTestCase):
    """A platform that has nothing to watch sockets with."""

    def test_refused(self) -> None:
        """A UDP listener says that it cannot be had, with its place."""
        world = a_world()
        rules = live_rules(parse("d: 127.0.0.1:0/udp -> 127.0.0.1:1/udp\n", "f"), world, Lines())
        refusal = self.assertRaises(StartError, Binder(world, DescriptorBudget(0, 0)).bind_all, rules)
        self.assertIn("without epoll", str(refusal))
