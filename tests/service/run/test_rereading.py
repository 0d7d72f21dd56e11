"""The rules file read again: from a real directory, by a forwarder that runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogLevel

from portfwd.logs.writer import LineWriter
from portfwd.rules.model import LogSpec
from portfwd.service.build.build import RuleMaker
from portfwd.service.daemon import slices
from portfwd.service.daemon.notify import Notifier
from portfwd.service.run import rereading
from portfwd.service.run.forwarder import Forwarder
from portfwd.service.run.reload import ReloadResult
from portfwd.service.run.rereading import ACCIDENT, NO_FILE, Confinement, Rereading
from portfwd.service.run.session_log import LogInUse, Opened
from tests.events import EventsOf
from tests.service.contexts import a_used_port, rules
from tests.service.run.test_reload import ReloadCase


class RereadingCase(ReloadCase):
    """A file, and a forwarder by its first version."""

    def setUp(self) -> Deferred[None]:
        """A directory that is the working one."""
        running = super().setUp()
        self.directory = Path(os.path.abspath(self.mktemp()))
        self.directory.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)
        self.first = f"log access=off\na: 127.0.0.1:0 -> {self.target}\n"
        self.notifier = mock.Mock(Notifier)
        self.told = EventsOf(self, Rereading)
        return running

    def write(self, text: str) -> None:
        """The file."""
        (self.directory / "rules.conf").write_text(text)

    def running(self, text: str | None = None, **options: Any) -> tuple[Forwarder, Rereading]:
        """A forwarder by that text, and who reads the file again."""
        text = self.first if text is None else text
        self.write(text)
        ruleset = rules(text)
        log = LogInUse(ruleset.log, foreground=options.pop("foreground", True))
        self.addCleanup(lambda: log.close(1.0))
        forwarder = self.started(text)
        path = options.pop("path", str(self.directory / "rules.conf"))
        made = Rereading(cast(Any, reactor), forwarder, path, log, notifier=self.notifier, **options)
        made.startService()
        return forwarder, made

    async def reread(self, again: Rereading, text: str, dry_run: bool = False) -> ReloadResult:
        """Another text in the file."""
        self.write(text)
        return await again.reload(dry_run)


class EmptyTests(RereadingCase):
    """Files without a rule."""

    async def test_refused(self) -> None:
        """A file that was cut short closes no listener."""
        forwarder, again = self.running()
        for text in ("", "log access=off\n", "include conf.d/*.conf\n", "include gone.conf\n"):
            result = await self.reread(again, text)
            self.assertFalse(result.applied, text)
            self.assertEqual([live.name for live in forwarder.rules], ["a"])

    async def test_allowed(self) -> None:
        """With ``--allow-empty`` it closes all of them."""
        forwarder, again = self.running(allow_empty=True)
        self.assertTrue((await self.reread(again, "log access=off\n")).applied)
        self.assertEqual(forwarder.rules, [])


class AppliedTests(RereadingCase):
    """Files that are good."""

    async def test_applied(self) -> None:
        """New rules are at work; the log has the difference, and systemd both ends of it."""
        forwarder, again = self.running()
        result = await self.reread(again, self.first + f"b: 127.0.0.2:0 -> {self.target}\n")
        self.assertTrue(result.applied)
        self.assertEqual([live.name for live in forwarder.rules], ["a", "b"])
        self.assertEqual(self.told.texts(LogLevel.info)[0], "reload: rules: 1 added, 1 unchanged")
        self.assertEqual(self.told.texts(LogLevel.info)[1], f"reload: + b: 127.0.0.2:0 -> {self.target}")
        self.assertRegex(self.told.texts()[2], r"^reload: done in \d\.\d{3} s, in slices of \d+ ms at most$")
        self.assertEqual(
            self.notifier.mock_calls,
            [mock.call.reloading(), mock.call.ready("2 listeners, 0 sessions")],
        )
        self.assertEqual(repr(again), f"<Rereading {self.directory}/rules.conf idle>")

    async def test_warnings(self) -> None:
        """Warnings of the file are told at every reload, and hinder nothing."""
        _, again = self.running()
        result = await self.reread(again, f"pool-trim-delay 5\n{self.first}")
        self.assertTrue(result.applied)
        self.assertEqual(len([line for line in self.told.texts() if "warning" in line]), 1, self.told.texts())

    async def test_dry_run(self) -> None:
        """The difference is told and nothing is done; systemd hears nothing."""
        forwarder, again = self.running()
        result = await self.reread(again, self.first + f"b: 127.0.0.2:0 -> {self.target}\n", dry_run=True)
        self.assertEqual((result.applied, result.failures, len(forwarder.rules)), (False, (), 1))
        self.assertEqual(self.told.texts(LogLevel.info)[0], "reload: dry run: rules: 1 added, 1 unchanged")
        self.assertEqual(self.notifier.mock_calls, [])
        bad = await self.reread(again, "nonsense\n", dry_run=True)
        self.assertTrue(bad.refused and bad.dry_run)
        self.assertEqual(forwarder.reload_failures, 0)

    async def test_another_log(self) -> None:
        """Another file or form is used by the next line, and the old file is closed."""
        text = f"log file=one.log\na: 127.0.0.1:0 -> {self.target}\n"
        _, again = self.running(text)
        old = again.session_log.writer
        result = await self.reread(again, text.replace("one.log", "two.log access=json"))
        self.assertTrue(result.applied)
        self.assertEqual(again.session_log.spec.file, "two.log")
        self.assertIsNot(again.session_log.writer, old)
        self.assertTrue((self.directory / "two.log").exists())
        await self.reread(again, text.replace("file=one.log", "access=off"))
        self.assertIsNone(again.session_log.log)

    async def test_missing_log(self) -> None:
        """A log that could not be opened at the start is used by sessions as soon as a reload can open it."""
        text = f"log file=late/one.log\na: 127.0.0.1:0 -> {self.target}\n"
        forwarder, again = self.running(text)
        self.assertTrue((await self.reread(again, text)).applied)
        self.assertTrue(again.session_log.is_missing)
        (self.directory / "late").mkdir()
        self.assertTrue((await self.reread(again, text)).applied)
        self.assertFalse(again.session_log.is_missing)
        self.assertIs(forwarder.rules[0].log, again.session_log.log)

    async def test_no_output(self) -> None:
        """A daemon that is told to write to standard output says that it cannot."""
        _, again = self.running(foreground=False)
        result = await self.reread(again, self.first.replace("access=off", "access=json"))
        self.assertEqual(len(result.notes), 1)
        self.assertIn("no standard output", result.notes[0])

    async def test_two_at_once(self) -> None:
        """Reloads that are asked for together come one after the other, and each reads the file."""
        forwarder, again = self.running()
        self.write(self.first + f"b: 127.0.0.2:0 -> {self.target}\n")
        first, second = again.reload(), again.reload()
        self.assertEqual(str(await first), "rules: 1 added, 1 unchanged")
        self.assertEqual(str(await second), "nothing is different")
        self.assertEqual(forwarder.reloads, 2)

    async def test_many_at_once(self) -> None:
        """A thousand requests are two reloads: one under way, and one that will read what is there then."""
        forwarder, again = self.running()
        self.patch(slices, "SLICE", 0.0)
        self.patch(rereading, "read_in_thread", lambda reactor, path, files: succeed(files))
        asked = [again.reload() for _ in range(1000)]
        tried = [again.reload(dry_run=True) for _ in range(1000)]
        self.write(self.first + f"b: 127.0.0.2:0 -> {self.target}\n")
        results = [await one for one in asked]
        self.assertEqual({str(one) for one in results[1:]}, {"rules: 1 added, 1 unchanged"})
        self.assertEqual(forwarder.reloads, 2)
        self.assertEqual({(await one).dry_run for one in tried}, {True})
        self.assertTrue((await again.reload()).applied)


class RefusedTests(RereadingCase):
    """Files that are not, and what they leave alone."""

    async def test_bad_file(self) -> None:
        """Every mistake with its line, as errors in the log; the rules go on; systemd is told."""
        forwarder, again = self.running()
        before = forwarder.ruleset, self.descriptor(forwarder, "a")
        result = await self.reread(again, f"{self.first}nonsense\nb: :1 -> 10.0.0.1:1 ilde=5\n")
        self.assertEqual(len(result.failures), 2)
        self.assertEqual((forwarder.ruleset, self.descriptor(forwarder, "a")), before)
        errors = self.told.texts(LogLevel.error)
        self.assertEqual(self.told.texts(), errors)
        self.assertIn("2 things are wrong", errors[0])
        self.assertTrue(any("rules.conf:3:" in line for line in errors))
        self.assertTrue(any("did you mean 'idle'?" in line for line in errors))
        self.assertEqual((forwarder.reloads, forwarder.reload_failures), (0, 1))
        self.assertTrue(forwarder.last_reload_refused)
        self.notifier.ready.assert_called_once_with("1 listener, 0 sessions; the last reload was refused")
        await self.reread(again, self.first)
        self.assertFalse(forwarder.last_reload_refused)

    async def test_warnings_of_a_bad_file(self) -> None:
        """They are told as well, and not counted as mistakes."""
        _, again = self.running()
        result = await self.reread(again, "pool-trim-delay 5\nnonsense\n")
        self.assertEqual(len(result.failures), 1)
        self.assertEqual(len(result.problems), 2)
        self.assertTrue(any("pool-trim-delay" in line for line in self.told.texts()), self.told.texts())

    async def test_taken_port(self) -> None:
        """What cannot be bound is refused with its line, and a log that was opened for it is closed."""
        forwarder, again = self.running()
        used = a_used_port(self)
        result = await self.reread(again, f"log file=new.log\nb: 127.0.0.1:{used} -> {self.target}\n")
        self.assertIn("rules.conf:2", result.failures[0])
        self.assertEqual(again.session_log.spec, forwarder.ruleset.log)
        self.assertIsNone(again.session_log.writer)
        off = await self.reread(again, f"log access=off file=x.log\nb: 127.0.0.1:{used} -> {self.target}\n")
        self.assertTrue(off.refused)

    async def test_log_that_cannot_be_had(self) -> None:
        """At a reload this is an error: the log in use is a better one."""
        forwarder, again = self.running()
        text = self.first.replace("access=off", "file=/nosuch/x.log")
        dry = await self.reread(again, text, dry_run=True)
        result = await self.reread(again, text)
        self.assertEqual(dry.failures, result.failures)
        self.assertRegex(
            result.failures[0],
            r"^access log /nosuch/x.log: No such file or directory \(.*rules.conf:1.*\); the old log stays",
        )
        self.assertEqual(forwarder.reload_failures, 1)

    async def test_dry_run_makes_no_log(self) -> None:
        """A dry run tries the log as well as that can be done without making it."""
        _, again = self.running()
        path = os.path.abspath(self.mktemp())
        dry = await self.reread(again, self.first.replace("access=off", f"file={path}"), dry_run=True)
        self.assertEqual(dry.failures, ())
        self.assertFalse(os.path.exists(path))
        os.mkdir(path)
        dry = await self.reread(again, self.first.replace("access=off", f"file={path}"), dry_run=True)
        self.assertIn("Is a directory", dry.failures[0])

    async def test_renewals(self) -> None:
        """After a reload files of operators' sockets are made again; what cannot be made is told."""
        _, again = self.running()
        again.renewals = (lambda: ["one"], lambda: ["two"])
        result = await self.reread(again, self.first)
        self.assertEqual(result.notes, ("one", "two"))
        again.renewals = (lambda: [str(1 // 0)],)
        self.assertTrue((await self.reread(again, self.first)).applied)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_accident(self) -> None:
        """What raises ends that reload only: it is told, systemd too, and a log opened for it is closed."""
        forwarder, again = self.running()
        writers = []
        open_other = again.session_log.open_other

        def opening(spec: LogSpec) -> Opened:
            opened = open_other(spec)
            writers.append(cast(LineWriter, opened[1]))
            return opened

        self.patch(again.session_log, "open_other", opening)
        with mock.patch.object(RuleMaker, "prepare", side_effect=ZeroDivisionError):
            result = await self.reread(again, f"log file=new.log\nb: 127.0.0.1:0 -> {self.target}\n")
        self.assertEqual(result.failures, (ACCIDENT,))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.notifier.ready.assert_called_once()
        writers[0].write("late")
        self.assertEqual(writers[0].dropped, 1, "it was closed")
        self.assertFalse((await self.reread(again, self.first)).refused)
        self.assertEqual(forwarder.reload_failures, 1)

    async def test_no_file(self) -> None:
        """Rules of the command line cannot be read again."""
        _, again = self.running(path=None)
        result = await again.reload()
        self.assertEqual(result.failures, (NO_FILE,))

    async def test_stop(self) -> None:
        """A stop ends the reading between two rules; systemd is not told that we are ready."""
        self.patch(slices, "SLICE", 0.0)
        forwarder, again = self.running()
        self.write("".join(f"b{number}: 127.0.0.1:0 -> {self.target}\n" for number in range(50)))
        result = again.reload()
        self.assertIn("under way", repr(again))
        again.stopService()
        stopped = forwarder.stopService()
        self.assertEqual((await result).failures, ("the forwarder is stopping",))
        await stopped
        self.notifier.ready.assert_not_called()
        again.stopService()

    async def test_stop_of_the_forwarder(self) -> None:
        """A reload that began to change is ended by the forwarder's own stop."""
        forwarder, again = self.running()
        gate: Deferred[Any] = Deferred()
        self.write(self.first.replace("127.0.0.1:0", "localhost:0"))
        with mock.patch.object(forwarder.names, "learn", mock.Mock(return_value=gate)) as learn:
            result = again.reload()
            await self.until(lambda: learn.called)
            await forwarder.stopService()
            gate.callback(None)
        self.assertTrue((await result).refused)


class ConfinementTests(RereadingCase):
    """What a process gave up when it started."""

    def test_visible(self) -> None:
        """A path beneath the new root is shorter from there; others cannot be named."""
        for chroot, path, expected in (
            ("", "/etc/rules.conf", "/etc/rules.conf"),
            ("/", "/etc/rules.conf", "/etc/rules.conf"),
            ("/srv/jail", "/srv/jail/etc/rules.conf", "/etc/rules.conf"),
            ("/srv/jail/", "/srv/jail/rules.conf", "/rules.conf"),
            ("/srv/jail", "/srv/jailer/rules.conf", "/srv/jailer/rules.conf"),
            ("/srv/jail", "/etc/rules.conf", "/etc/rules.conf"),
        ):
            self.assertEqual(Confinement(chroot).visible(path), expected, (chroot, path))

    def test_notes(self) -> None:
        """Why a file may not be there: another root, another directory, or neither."""
        here = os.getcwd()
        self.assertEqual(Confinement("", here).notes(), [])
        self.assertEqual(Confinement().notes(), [])
        self.assertIn("--chroot", Confinement("/srv", here).notes()[0])
        (note,) = Confinement("", "/somewhere/else").notes()
        self.assertIn(f"works in {here} now and not in /somewhere/else", note)
        self.assertEqual(Confinement("", here, os.geteuid()).notes(), [])
        (note,) = Confinement("", here, os.geteuid() + 1).notes()
        self.assertIn("(--uid): what that user may not read", note)
        with mock.patch("os.getcwd", side_effect=FileNotFoundError):
            self.assertIn("a directory that is gone", Confinement("", "/else").notes()[0])

    async def test_out_of_reach(self) -> None:
        """A file that cannot be read any more is refused with the reason; other mistakes are not."""
        _, again = self.running(confinement=Confinement("/srv/jail", str(self.directory)))
        bad = await self.reread(again, "nonsense\n")
        self.assertEqual(bad.notes, ())
        os.unlink("rules.conf")
        gone = await again.reload()
        self.assertTrue(gone.refused)
        self.assertIn("beneath /srv/jail", gone.notes[0])
        self.assertIn(f"reload: note: {gone.notes[0]}", self.told.texts(LogLevel.error))
