"""The access log that a rules file asks for, at the start and at a reload."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from unittest import mock

from twisted.logger import LoggingFile
from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.model import AccessLogFormat as Form
from portfwd.rules.model import LogSpec
from portfwd.service.run import session_log
from portfwd.service.run.session_log import NO_OUTPUT, LogInUse, open_log


class LogCase(SynchronousTestCase):
    """Tests in a directory of their own."""

    def setUp(self) -> None:
        """The working directory."""
        place = Path(os.path.abspath(self.mktemp()))
        place.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(place)

    def in_use(self, *spec: object, foreground: bool = True) -> LogInUse:
        """A log that is closed after the test."""
        made = LogInUse(LogSpec(*spec), foreground=foreground)  # type: ignore[arg-type]
        self.addCleanup(lambda: made.close(1.0))
        return made


class StartTests(LogCase):
    """What is had at the start, and what is said where it is not."""

    def test_default(self) -> None:
        """Text on standard output, in the foreground."""
        self.patch(sys, "stdout", io.TextIOWrapper(open(os.devnull, "wb")))  # noqa: SIM115 - closed with sys.stdout
        made = self.in_use()
        assert made.log is not None
        self.assertEqual((made.log.form, made.warning), (Form.TEXT, ""))
        self.assertIn("LineWriter", repr(made))

    def test_off(self) -> None:
        """Nothing, without a word."""
        made = self.in_use(Form.OFF)
        self.assertEqual((made.log, made.writer, made.warning), (None, None, ""))
        made.reopen()

    def test_daemon(self) -> None:
        """A daemon has no standard output, which is said."""
        made = self.in_use(foreground=False)
        self.assertEqual((made.log, made.warning), (None, NO_OUTPUT))

    def test_forms(self) -> None:
        """Each form into a file, also as a daemon."""
        for form in (Form.TEXT, Form.JSON, Form.RINETD, Form.COMMON):
            made = self.in_use(form, "x.log", foreground=False)
            assert made.log is not None
            self.assertEqual((made.log.form, made.warning), (form, ""))

    def test_standard_output_that_is_no_file(self) -> None:
        """Somewhere that has no descriptor there is a warning, and no log."""
        self.patch(sys, "stdout", mock.Mock(buffer=io.BytesIO()))
        made = self.in_use()
        self.assertIsNone(made.log)
        self.assertIn("going on without", made.warning)

    def test_fifo_without_reader(self) -> None:
        """A FIFO that nobody reads is a warning with the remedy."""
        os.mkfifo("fifo")
        made = self.in_use(Form.TEXT, "fifo")
        self.assertIsNone(made.log)
        self.assertEqual(
            made.warning,
            "access log fifo: no process reads this FIFO; start its reader first, or name a file;"
            " going on without",
        )

    def test_trouble_is_logged(self) -> None:
        """What the writer complains of goes to the log of events."""
        logger = mock.Mock()
        self.patch(session_log, "Logger", lambda: logger)
        _, writer = open_log(LogSpec(Form.TEXT, "x.log"), None)
        assert writer is not None
        self.addCleanup(writer.close, 1.0)
        os.rename("x.log", "y.log")
        os.mkdir("x.log")
        writer.reopen()
        self.assertTrue(writer.flush(5.0))
        (call,) = logger.warn.call_args_list
        self.assertEqual(call.args, ("access log: {trouble}",))
        self.assertIn("Is a directory", call.kwargs["trouble"])

    def test_reopen(self) -> None:
        """The file is made again where it was moved away."""
        made = self.in_use(Form.TEXT, "x.log")
        assert made.writer is not None
        os.rename("x.log", "y.log")
        made.reopen()
        made.writer.write("later")
        self.assertTrue(made.writer.flush(5.0))
        self.assertEqual(Path("x.log").read_text() + Path("y.log").read_text(), "later\n")


class ExchangeTests(LogCase):
    """Another log for the same sessions."""

    def test_missing(self) -> None:
        """A file that could not be opened is tried again, and told of until it can be."""
        logger = mock.Mock()
        self.patch(session_log, "Logger", lambda: logger)
        made = self.in_use(Form.TEXT, "later/x.log")
        self.assertIn("going on without", made.warning)
        self.assertFalse(made.reopen())
        (call,) = logger.warn.call_args_list
        self.assertEqual(call.kwargs["trouble"], "access log later/x.log: No such file or directory")
        os.mkdir("later")
        self.assertTrue(made.reopen())
        self.assertFalse(made.reopen())
        self.assertTrue(os.path.exists("later/x.log"))
        self.assertIsNotNone(made.log)

    def test_exchange(self) -> None:
        """Later lines go to the other one; what was written before is all in the first."""
        made = self.in_use(Form.TEXT, "x.log")
        assert made.writer is not None
        first = made.writer
        for number in range(1000):
            first.write(f"line {number}")
        other = LogSpec(Form.JSON, "y.log")
        self.assertEqual(made.exchange(other, made.open_other(other)), "")
        assert made.log is not None
        self.assertEqual((made.spec, made.log.form), (other, Form.JSON))
        self.assertTrue(first.close(5.0))
        self.assertEqual(Path("x.log").read_text().count("\n"), 1000)

    def test_none(self) -> None:
        """It may be turned off, and on again; a daemon is told that it has no output."""
        made = self.in_use(Form.OFF, foreground=False)
        self.assertEqual(made.exchange(LogSpec(), made.open_other(LogSpec())), NO_OUTPUT)
        other = LogSpec(Form.TEXT, "x.log")
        self.assertEqual(made.exchange(other, made.open_other(other)), "")
        self.assertEqual(made.exchange(LogSpec(Form.OFF), made.open_other(LogSpec(Form.OFF))), "")
        self.assertIsNone(made.writer)

    def test_standard_output_of_the_start(self) -> None:
        """Lines go back to standard output as it was at the start: twistd puts its own log in its place."""
        with open("out", "wb") as out:
            self.patch(sys, "stdout", io.TextIOWrapper(out))
            made = self.in_use(Form.TEXT, "x.log")
            self.patch(sys, "stdout", LoggingFile(mock.Mock()))
            made.exchange(LogSpec(), made.open_other(LogSpec()))
            assert made.writer is not None
            made.writer.write("here")
            self.assertTrue(made.writer.flush(5.0))
        self.assertEqual(Path("out").read_text(), "here\n")

    def test_cannot_be_had(self) -> None:
        """One that cannot be opened leaves the first in use."""
        made = self.in_use(Form.TEXT, "x.log")
        self.assertRaises(OSError, made.open_other, LogSpec(Form.TEXT, "nosuch/x.log"))
        assert made.writer is not None
        self.assertTrue(made.writer.name.endswith("x.log"))
