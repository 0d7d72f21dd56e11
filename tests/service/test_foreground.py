"""``portfwd run``: what it hands to twistd's code."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.foreground import ForegroundOptions, run_in_foreground

RULE = "a: 127.0.0.1:0 -> 127.0.0.1:9"


class ForegroundTests(SynchronousTestCase):
    """twistd's options."""

    def test_options(self) -> None:
        """It stays in the foreground, writes no pid file and hands our options to our service."""
        given: list[Any] = []
        run_in_foreground(["--rule", RULE], given.append)
        (options,) = given
        self.assertTrue(options["nodaemon"])
        self.assertEqual(options["pidfile"], "")
        self.assertEqual(options.subCommand, "portfwd")
        self.assertEqual(options.subOptions["rules"], [RULE])
        self.assertEqual(list(options.loadedPlugins), ["portfwd"])

    def test_mistake(self) -> None:
        """Wrong options are Twisted's exception."""
        self.assertRaises(UsageError, run_in_foreground, [], mock.Mock())

    def test_no_other_plugins(self) -> None:
        """No directory of plug-ins is looked at."""
        with mock.patch("twisted.plugin.getCache") as look:
            self.assertEqual([one[0] for one in ForegroundOptions().subCommands], ["portfwd"])
        look.assert_not_called()
