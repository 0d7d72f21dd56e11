"""What is said of an address that cannot be listened on."""

from __future__ import annotations

import errno
import os

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Location
from portfwd.rules.model import NOWHERE
from portfwd.service.build.bind_failures import cannot_bind, cannot_listen
from tests.service.contexts import rules

RULE = rules("web: 127.0.0.1:80-81 -> 127.0.0.1:90-91\n").rules[0]
IN_USE = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


class TextTests(SynchronousTestCase):
    """The line of each."""

    def test_place(self) -> None:
        """The rule, the address of that port of the range, the reason and the place in the file."""
        self.assertEqual(
            cannot_bind(RULE, "web:81", 1, IN_USE),
            "web:81: cannot listen on 127.0.0.1:81: Address already in use (test.conf:1:6);"
            " 'ss -lntupx' shows what listens there: stop it, or listen elsewhere",
        )

    def test_without_a_place(self) -> None:
        """A rule that a program made stands in no file."""
        rule = evolve(RULE, listen=evolve(RULE.listen, where=NOWHERE))
        self.assertTrue(cannot_bind(rule, "a", 0, ValueError("odd")).endswith(": odd"))

    def test_name(self) -> None:
        """A rule that is called by its address is not named twice."""
        line = cannot_listen(":80", ":80", ValueError("odd"), Location("a.conf", 3))
        self.assertEqual(line, "cannot listen on :80: odd (a.conf:3)")
