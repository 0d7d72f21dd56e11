"""Tests of ``portfwd run``: what its words become; `tests.integration.test_run` forwards."""

from __future__ import annotations

from unittest import mock

from tests.cli.running import CommandTestCase


class RunTests(CommandTestCase):
    """The words for ``twistd portfwd``."""

    def words(self, *words: str) -> list[str]:
        """What is run."""
        with mock.patch("portfwd.service.foreground.run_in_foreground") as run:
            self.assertEqual(self.run_main("run", *words), (0, "", ""))
        ((given,), _) = run.call_args
        assert isinstance(given, list)
        return given

    def test_words(self) -> None:
        """Each option is handed on; rules may look like options."""
        self.assertEqual(self.words("-c", "x.conf"), ["--config=x.conf"])
        self.assertEqual(
            self.words("--rule", ":1 -> a:1", "-r", ":2 -> a:2", "--drain", "1m30s"),
            ["--rule=:1 -> a:1", "--rule=:2 -> a:2", "--drain=1m30s"],
        )

    def test_flags(self) -> None:
        """Flags are handed on."""
        self.assertEqual(
            self.words("-c", "x", "--allow-empty", "--watch"), ["--config=x", "--watch", "--allow-empty"]
        )

    def test_rules_do_not_change(self) -> None:
        """Rules of the command line cannot be watched."""
        code, _, err = self.run_main("run", "-r", ":1 -> a:1", "--watch")
        self.assertEqual((code, err.count("\n")), (2, 1))
        self.assertIn("--watch needs a rules file", err)

    def test_mistakes(self) -> None:
        """A wrong command line is one line, before anything of twistd is asked."""
        for words, said in (
            ((), "one of the arguments"),
            (("-c", "x", "-r", "y"), "not allowed with"),
            (("-c", "x", "--drain", "soon"), "expected a duration"),
            (("-c", "x", "y.conf"), "unrecognized arguments"),
        ):
            code, out, err = self.run_main("run", *words)
            self.assertEqual((code, out, err.count("\n")), (2, "", 1), words)
            self.assertIn(said, err)
