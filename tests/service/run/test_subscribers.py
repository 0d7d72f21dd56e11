"""Readers of what happens to sessions."""

from __future__ import annotations

from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.run.subscribers import Subscribers
from tests.service.contexts import Lines

SUMMARY = cast(Any, "a summary")


class SubscribersTests(SynchronousTestCase):
    """Logs and functions come and go."""

    def test_wants(self) -> None:
        """A summary is wanted as long as a reader wants it."""
        subscribers = Subscribers()
        self.assertEqual((subscribers.wants_opened, subscribers.wants_closed), (False, False))
        end = subscribers.subscribe(lambda _: None, None)
        self.assertEqual((subscribers.wants_opened, subscribers.wants_closed), (True, False))
        end()
        end()
        subscribers.add(Lines())
        self.assertEqual((subscribers.wants_opened, subscribers.wants_closed), (False, True))

    def test_told(self) -> None:
        """Each reader is told what it wants, also when one before it raises or ends its subscription."""
        subscribers, lines, told = Subscribers(), Lines(), []

        def bad(summary: object) -> None:
            end()
            raise SystemExit

        end = subscribers.subscribe(None, bad)
        subscribers.add(lines)
        subscribers.subscribe(lambda _: told.append("opened"), lambda _: told.append("closed"))
        subscribers.opened(SUMMARY)
        subscribers.closed(SUMMARY)
        subscribers.closed(SUMMARY)
        self.assertEqual(told, ["opened", "closed", "closed"])
        self.assertEqual(lines.closed_lines, [SUMMARY, SUMMARY])
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)
