"""What is said of an address that cannot be listened on."""

from __future__ import annotations

import errno
import os
from functools import partial

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Location
from portfwd.listen.unix_files import bind_unix, try_unix
from portfwd.rules.model import NOWHERE
from portfwd.service.build.bind_failures import cannot_bind, cannot_listen
from portfwd.values import UnixAddress
from tests.places import short_directory
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

    def test_datagrams(self) -> None:
        """A port of UDP is one of UDP in its message."""
        rule = rules("127.0.0.1:53/udp -> 127.0.0.1:54/udp\n").rules[0]
        line = cannot_bind(rule, rule.name, 0, IN_USE)
        self.assertTrue(line.startswith("cannot listen on 127.0.0.1:53/udp: Address already in use"), line)

    def test_another_file(self) -> None:
        """Where a file is that is not a socket, nothing listens."""
        path = f"{short_directory(self)}/s"
        rule = rules(f"a: unix:{path} -> 127.0.0.1:90\n").rules[0]
        for make, what in ((os.mkdir, "a directory"), (os.mknod, "a file that is not a socket")):
            make(path)
            for attempt in (try_unix, partial(bind_unix, listen=rule.listen.options)):
                problem = self.assertRaises(OSError, attempt, UnixAddress(path))
                self.assertEqual(
                    cannot_bind(rule, "a", 0, problem),
                    f"a: cannot listen on unix:{path}: {what} is there (test.conf:1:4);"
                    " remove it, or listen on another path",
                )
            (os.rmdir if make is os.mkdir else os.unlink)(path)

    def test_without_a_place(self) -> None:
        """A rule that a program made stands in no file."""
        rule = evolve(RULE, listen=evolve(RULE.listen, where=NOWHERE))
        self.assertTrue(cannot_bind(rule, "a", 0, ValueError("odd")).endswith(": odd"))

    def test_name(self) -> None:
        """A rule that is called by its address is not named twice."""
        line = cannot_listen(":80", ":80", ValueError("odd"), Location("a.conf", 3))
        self.assertEqual(line, "cannot listen on :80: odd (a.conf:3)")
