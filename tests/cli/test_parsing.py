"""Tests of `portfwd.cli.parsing`."""

from __future__ import annotations

import io
import sys

from twisted.trial.unittest import SynchronousTestCase

from portfwd.cli.parsing import WRONG, Parser, unknown_command


class ParserTests(SynchronousTestCase):
    """Errors of a command line."""

    def test_error(self) -> None:
        """An error is one line, escaped, and the exit code is 2; parsers of commands behave the same."""
        parser = Parser(prog="it")
        go = parser.add_subparsers().add_parser("go")
        go.add_argument("where")
        go.add_argument("--watch", action="store_true")
        err = io.StringIO()
        self.patch(sys, "stderr", err)
        for words, line in (
            (["go"], "it go: the following arguments are required: where; see 'it go --help'\n"),
            (["go", "a", "\x1b[2J"], "it go: unrecognized arguments: \\x1b[2J; see 'it go --help'\n"),
            (
                ["go", "a", "--wach"],
                "it go: unrecognized arguments: --wach; did you mean '--watch'?; see 'it go --help'\n",
            ),
        ):
            stop = self.assertRaises(SystemExit, parser.parse_args, words)
            self.assertEqual((stop.code, err.getvalue()), (WRONG, line))
            err.truncate(0)
            err.seek(0)


class UnknownCommandTests(SynchronousTestCase):
    """The first word of a command line."""

    def test_known(self) -> None:
        """Commands, options and nothing at all are no mistake."""
        for words in ((), ("go",), ("--version",)):
            self.assertEqual(unknown_command("it", words, ["go"]), "")

    def test_unknown(self) -> None:
        """The nearest command is named if there is one."""
        self.assertEqual(
            unknown_command("it", ["gp"], ["go"]),
            "it: there is no command 'gp'; 'it help' lists the commands",
        )
        self.assertEqual(
            unknown_command("it", ["Chekc"], ["check"]),
            "it: there is no command 'Chekc'; did you mean 'check'?",
        )
