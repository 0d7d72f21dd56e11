"""``twistd portfwd``: options, exit statuses, what is read when, pid files and the access log."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest import mock

from twisted.internet.defer import succeed
from twisted.logger import LogLevel
from twisted.python.usage import UsageError
from twisted.trial.unittest import TestCase

from portfwd import __version__
from portfwd.errors import RulesError, StartError
from portfwd.service import tap
from portfwd.service.build.bind_failures import WAYS_OUT
from portfwd.service.daemon.daemon import Announcing, Daemon
from portfwd.service.daemon.notify import STOP_MARGIN
from portfwd.service.daemon.pid_file import PidFile
from portfwd.service.run.forwarder import DRAIN, Forwarder
from portfwd.service.run.rereading import Confinement, Rereading
from portfwd.service.tap import BAD_RULES, ForwarderOptions, read_rules
from tests.events import EventsOf
from tests.places import short_directory
from tests.service.contexts import a_used_port

ROOT = Path(__file__).resolve().parents[2]
RULE = "a: 127.0.0.1:0 -> 127.0.0.1:9"


def parsed(*arguments: str) -> ForwarderOptions:
    """The command line."""
    options = ForwarderOptions()
    options.parseOptions(arguments)
    return options


class TapCase(TestCase):
    """Tests in a directory of their own, whose terminal is kept."""

    def setUp(self) -> None:
        """A directory that is the working one."""
        self.directory = short_directory(self)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)
        self.errors = io.StringIO()
        self.patch(sys, "stderr", self.errors)

    def write(self, text: str, name: str = "rules.conf") -> str:
        """A file."""
        (self.directory / name).write_text(text)
        return name

    def leaves(self, status: int, call: Callable[..., object], *arguments: Any) -> str:
        """The call ends the process so; what it said."""
        self.assertEqual(self.assertRaises(SystemExit, call, *arguments).code, status)
        return self.errors.getvalue()

    def service(self, *arguments: str, nodaemon: bool = True, pidfile: str = "") -> Daemon:
        """What twistd would start."""
        options = parsed(*arguments)
        options.parent = {"nodaemon": nodaemon, "pidfile": pidfile}
        made = tap.makeService(options)
        assert isinstance(made, Daemon)
        self.addCleanup(made.session_log.close, 1.0)
        return made


class DirectoryTests(TapCase):
    """The working directory."""

    def test_gone(self) -> None:
        """In a directory that was deleted nothing starts, and one line says why."""
        os.rmdir(self.directory)
        for arguments in (("--rule", RULE), ("-c", "rules.conf"), ("-c", "rules.conf", "--watch")):
            self.errors.truncate(0)
            said = self.leaves(1, tap.makeService, parsed(*arguments))
            self.assertEqual(said.count("\n"), 1)
            self.assertIn("the working directory cannot be used: No such file or directory", said)


class OptionsTests(TapCase):
    """The command line."""

    def test_defaults(self) -> None:
        """Rules from the command line, ten seconds to drain."""
        options = parsed("--rule", RULE, "-r", ":1 -> 10.0.0.1:1")
        self.assertEqual(options["rules"], [RULE, ":1 -> 10.0.0.1:1"])
        self.assertEqual((options["drain"], options["config"]), (DRAIN, None))

    def test_drain(self) -> None:
        """A duration as in the rules file, or a message."""
        self.assertEqual(parsed("-c", "x", "--drain", "1m30s")["drain"], 90.0)
        self.assertRaises(UsageError, parsed, "-c", "x", "--drain", "soon")

    def test_one_source(self) -> None:
        """A file or rules, not both and not neither."""
        for arguments in ((), ("-c", "x", "--rule", RULE)):
            problem = self.assertRaises(UsageError, parsed, *arguments)
            self.assertIn("give either a rules file", str(problem))

    def test_watch(self) -> None:
        """Only a file can be watched."""
        self.assertTrue(parsed("-c", "x", "--watch")["watch"])
        self.assertIn("needs a rules file", str(self.assertRaises(UsageError, parsed, "-r", RULE, "--watch")))

    def test_file_without_option(self) -> None:
        """A rules file that stands by itself is told how it is named."""
        problem = self.assertRaises(UsageError, parsed, "rules.conf")
        self.assertIn("unexpected argument 'rules.conf': write -c FILE", str(problem))
        self.assertIn("'rules.conf'", str(problem))

    def test_version(self) -> None:
        """`--version` prints ours and leaves."""
        said = io.StringIO()
        self.patch(sys, "stdout", said)
        self.leaves(0, parsed, "--version")
        self.assertEqual(said.getvalue(), f"portfwd {__version__}\n")

    def test_help(self) -> None:
        """Every option is explained."""
        usage = str(ForwarderOptions())
        for word in ("--config", "--rule", "--drain", "rinetd", "Repeatable"):
            self.assertIn(word, usage)


class ReadRulesTests(TapCase):
    """Where rules come from."""

    def test_file(self) -> None:
        """Its path is absolute in every message and include, wherever the process goes afterwards."""
        self.write(RULE, "more.conf")
        ruleset = read_rules(parsed("-c", self.write("include more.conf")))
        self.assertEqual(ruleset.files, (f"{self.directory}/rules.conf", f"{self.directory}/more.conf"))

    def test_command_line(self) -> None:
        """Several rules stand side by side; a service's name is known."""
        ruleset = read_rules(parsed("--rule", RULE, "--rule", "b: 127.0.0.1:http -> 127.0.0.1:9"))
        self.assertEqual([rule.name for rule in ruleset.rules], ["a", "b"])

    def test_every_problem(self) -> None:
        """The problems of all rules of the command line come at once, each with its rule's number."""
        texts = (":1 -> ", RULE, ":2 -> x:1 ilde=1", ":3 -> x:1\nfilter nonesuch", ":4 -> x:1", ":4 -> y:1")
        words = [word for text in texts for word in ("--rule", text)]
        problem = self.assertRaises(RulesError, read_rules, parsed(*words))
        numbers = [one.location.file for one in problem.problems]
        self.assertEqual(numbers, [f"--rule #{number}" for number in (1, 3, 4, 6)])

    def test_clash(self) -> None:
        """Rules that are good alone and clash together are refused."""
        options = parsed("--rule", ":8080 -> 10.0.0.1:1", "--rule", ":8080 -> 10.0.0.2:1")
        self.assertRaises(RulesError, read_rules, options)

    def test_not_yet(self) -> None:
        """An unsupported feature is a problem like others."""
        problem = self.assertRaises(
            RulesError, read_rules, parsed("--rule", "tls::1 cert=a -> b:1 relay=copy")
        )
        self.assertIn("not-yet", [one.code for one in problem.problems])

    def test_filter(self) -> None:
        """So is what a filter says of its clause."""
        rule = f"{RULE}\n filter python:tests.filters.plugins.Bare loud=on"
        problem = self.assertRaises(RulesError, read_rules, parsed("--rule", rule))
        self.assertIn("bad-filter-option", [one.code for one in problem.problems])


class MakeServiceTests(TapCase):
    """Files in, a service or an exit status out."""

    def test_bad_rules(self) -> None:
        """Every problem with its place, then how many; status 2."""
        name = self.write(f"{RULE} ilde=1\n{RULE}\nnonsense\n")
        said = self.leaves(BAD_RULES, self.service, "-c", name)
        self.assertIn(f"{self.directory}/rules.conf:1:", said)
        self.assertIn("did you mean 'idle'?", said)
        self.assertRegex(said, r"portfwd: \d+ errors, nothing was started\n$")

    def test_one_problem(self) -> None:
        """One error is no errors."""
        said = self.leaves(BAD_RULES, self.service, "--rule", f"{RULE} ilde=1")
        self.assertTrue(said.endswith("portfwd: 1 error, nothing was started\n"))

    def test_files_that_cannot_be_read(self) -> None:
        """What cannot be read: status 1; bytes that are no text, and what a file includes: 2."""
        (self.directory / "bytes.conf").write_bytes(b"\xff\xfe")
        self.write("include nosuch.conf\n", "including.conf")
        for name, status in (
            ("nosuch.conf", 1),
            (".", 1),
            ("bytes.conf", BAD_RULES),
            ("including.conf", BAD_RULES),
        ):
            said = self.leaves(status, self.service, "-c", name)
            self.assertIn(os.path.abspath(name), said)

    def test_bad_target(self) -> None:
        """A file that a target needs and that is missing: the words of ``check``, and status 2."""
        said = self.leaves(BAD_RULES, self.service, "--rule", "a: :0 -> tls:h.example:443 ca=gone.pem")
        self.assertTrue(said.startswith("--rule:1:28: error: ca=gone.pem: No such file"), said)
        self.assertTrue(said.endswith("portfwd: 1 error, nothing was started\n"), said)

    def test_warnings(self) -> None:
        """Warnings of the file are printed at once, and stand in the log when all is up."""
        service = self.service("--allow-empty", "-c", self.write("pool-trim-delay 5\nlog access=off\n"))
        self.assertIn("warning", self.errors.getvalue())
        (announcing,) = (one for one in service if isinstance(one, Announcing))
        told = EventsOf(self, Announcing)
        announcing.announce()
        self.assertGreaterEqual(len(told.texts(LogLevel.warn)), 2)
        self.assertEqual(told.texts(LogLevel.info)[-1], "portfwd is ready: 0 listeners")

    def test_empty(self) -> None:
        """A file without rules does not start."""
        said = self.leaves(2, self.service, "-c", self.write("log access=off\n"))
        self.assertIn("there is no rule", said)

    def test_paths_are_absolute(self) -> None:
        """Log and pid file stay where the file said, wherever the process goes."""
        name = self.write(f"logfile access.log\npidlogfile run.pid\n{RULE}\n")
        service = self.service("-c", name)
        (pid_file,) = (one for one in service if isinstance(one, PidFile))
        self.assertFalse((self.directory / "run.pid").exists())
        os.chdir("/")
        pid_file.privilegedStartService()
        self.assertTrue((self.directory / "run.pid").exists())
        pid_file.stopService()
        assert service.session_log.writer is not None
        self.assertEqual(service.session_log.writer.name, f"{self.directory}/access.log")
        self.assertTrue((self.directory / "access.log").exists())

    def test_pid_file_of_the_rules(self) -> None:
        """``pidlogfile`` replaces twistd's default pid file; one that ``--pidfile`` names is kept."""
        name = self.write(f"pidlogfile run.pid\n{RULE}\n")
        for pidfile, rest in (("twistd.pid", ""), ("other.pid", os.path.abspath("other.pid"))):
            options = parsed("-c", name)
            parent = {"nodaemon": True, "pidfile": os.path.abspath(pidfile)}
            options.parent = parent
            tap.makeService(options)
            self.assertEqual(parent["pidfile"], rest)

    def test_log_that_cannot_be_had(self) -> None:
        """It is said, and the service is made without."""
        service = self.service("-c", self.write(f"logfile nosuch/access.log\n{RULE}\n"))
        self.assertIsNone(service.session_log.writer)
        said = self.errors.getvalue()
        self.assertIn(f"rules.conf:1:1: warning: there is no directory '{self.directory}/nosuch'\n", said)
        self.assertNotIn("access log", said)

    def test_without_twistd(self) -> None:
        """Options without a parent make a service for the foreground."""
        options = parsed("--rule", RULE)
        service = tap.makeService(options)
        assert isinstance(service, Daemon)
        self.assertTrue(service.foreground)

    def test_nothing_is_imported_late(self) -> None:
        """
        A chroot or another user hides the library: all modules are there when the service is made.

        Sessions over names, refused and reset ones, both kinds of relay, and the log.
        """
        done = subprocess.run(
            [sys.executable, "-c", LATE], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        )
        self.assertEqual(done.stdout.splitlines()[-1], "[]", done.stdout)

    def test_modules_of_other_platforms(self) -> None:
        """What a platform lacks is passed by."""
        self.patch(tap, "LATE_MODULES", ("nosuchmodule", "json"))
        tap.load_late_modules()
        self.assertIn("json", sys.modules)


LATE = """
import socket, struct, sys, threading
from portfwd.service import tap

upstream = socket.create_server(("127.0.0.1", 0))
port = upstream.getsockname()[1]
options = tap.Options()
options.parseOptions([
    "--rule", f"name: 127.0.0.1:0 -> localhost:{port}",
    "--rule", "refused: 127.0.0.1:0 -> 127.0.0.1:1",
    "--rule", f"pair: 127.0.0.1:0 -> 127.0.0.1:{port} relay=pair",
])
service = tap.makeService(options)
before = set(sys.modules)
service.privilegedStartService()
service.startService()
from twisted.internet import reactor
forwarder = service.getServiceNamed("portfwd")

def talk(rule, port):
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        if rule != "refused":
            server, _ = upstream.accept()
            client.sendall(b"x")
            server.recv(1)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.close()
        client.recv(1)

def converse():
    for rule, (address,) in list(forwarder.addresses.items()):
        try:
            talk(rule, int(address.rpartition(":")[2]))
        except ConnectionResetError:
            pass
    reactor.callFromThread(lambda: service.stopService().addBoth(lambda _: reactor.stop()))

threading.Thread(target=converse, daemon=True).start()
reactor.run()
print()
print(sorted(set(sys.modules) - before))
"""


class DaemonTests(TapCase):
    """A start that fails, as twistd can report it."""

    def taken(self) -> tuple[str, str]:
        """A rule that cannot be bound, and the line that says so."""
        port = a_used_port(self)
        return (
            f"bad: 127.0.0.1:{port} -> 127.0.0.1:9",
            f"bad: cannot listen on 127.0.0.1:{port}: Address already in use (--rule:1:6);"
            f" {WAYS_OUT[errno.EADDRINUSE]}",
        )

    def test_foreground(self) -> None:
        """A line for each failure, status 1; the pid file that twistd wrote is removed."""
        rule, line = self.taken()
        pid = self.write(f"{os.getpid()}\n", "twistd.pid")
        service = self.service("--rule", rule, pidfile=pid)
        said = self.leaves(1, service.privilegedStartService)
        self.assertEqual(said, f"portfwd: {line}\n")
        self.assertFalse(os.path.exists(pid))

    def test_somebody_elses_pid_file(self) -> None:
        """A pid file of another process, or without a number, is not removed."""
        for text in ("1\n", "what?"):
            pid = self.write(text, "twistd.pid")
            service = self.service("--rule", self.taken()[0], pidfile=pid)
            self.leaves(1, service.privilegedStartService)
            self.assertTrue(os.path.exists(pid))

    def test_daemon(self) -> None:
        """An exception, because leaving would hang the waiting parent; its text begins with what matters."""
        rule, line = self.taken()
        service = self.service("--rule", rule, nodaemon=False)
        told = EventsOf(self, Daemon)
        problem = self.assertRaises(StartError, service.privilegedStartService)
        self.assertEqual(str(problem), line)
        self.assertEqual(told.texts(LogLevel.critical), [line])

    def test_daemon_with_several_failures(self) -> None:
        """The first one and how many there are reach the terminal; the log has all."""
        first, line = self.taken()
        second = self.taken()[0].replace("bad", "two")
        service = self.service("--rule", first, "--rule", second, nodaemon=False)
        told = EventsOf(self, Daemon)
        problem = self.assertRaises(StartError, service.privilegedStartService)
        self.assertEqual(str(problem), f"1 of 2: {line}".replace("--rule:", "--rule #1:"))
        self.assertNotIn("\n", str(problem))
        self.assertEqual(len(told.texts(LogLevel.critical)), 2)
        said = f"1 portfwd.errors.StartError: {problem}".encode()[:100]
        self.assertIn(b": cannot listen on 127.0.0.1:", said)

    def test_failure_at_the_second_step(self) -> None:
        """A port that is taken between bind and listen ends the start as well; our pid file goes with it."""
        name = self.write(f"pidlogfile run.pid\n{RULE}\n")
        service = self.service("-c", name)
        service.privilegedStartService()
        self.assertEqual((self.directory / "run.pid").read_text(), f"{os.getpid()}\n")
        forwarder = service.getServiceNamed("portfwd")
        assert isinstance(forwarder, Forwarder)
        for bound in forwarder.bound:
            for listener in bound.listeners:
                self.patch(listener, "start", mock.Mock(side_effect=OSError(98, "Address already in use")))
        self.assertIn("Address already in use", self.leaves(1, service.startService))
        self.assertFalse((self.directory / "run.pid").exists())

    async def test_stop(self) -> None:
        """The forwarder drains first, then the last lines are written."""
        order: list[str] = []
        forwarder = cast(Any, mock.Mock())
        forwarder.setServiceParent = lambda parent: parent.addService(forwarder)
        forwarder.stopService = lambda: order.append("drained") or succeed(None)
        writer = cast(Any, mock.Mock(close=lambda seconds: order.append(f"closed in {seconds:g}")))
        daemon = Daemon(forwarder, writer, foreground=True, twistd_pid_file=None)
        await daemon.stopService()
        self.assertEqual(order, ["drained", "closed in 2"])

    async def test_stop_without_a_log(self) -> None:
        """There is nothing to write."""
        service = self.service("-c", self.write(f"log access=off\n{RULE}\n"))
        self.assertIsNone(service.session_log.writer)
        await service.stopService()

    async def test_systemd_is_told(self) -> None:
        """Ready once signals are obeyed, stopping with the time that it may take; and the beat ends."""
        service = self.service("--rule", RULE, "--drain", "30")
        service.notifier = notifier = mock.Mock()
        (announcing,) = (one for one in service if isinstance(one, Announcing))
        announcing.notifier = notifier
        announcing.announce()
        notifier.ready.assert_called_once_with("1 listener, 0 sessions")
        await service.stopService()
        notifier.stopping.assert_called_once_with("draining 0 sessions", 30 + STOP_MARGIN)

    def test_confinement(self) -> None:
        """What twistd is going to take away is remembered, and filters are imported before."""
        imported: list[str] = []
        self.patch(tap.importlib, "import_module", imported.append)
        options = parsed("--rule", RULE)
        options.parent = {"nodaemon": True, "chroot": "below"}
        service = tap.makeService(options)
        (rereading,) = (one for one in cast(Daemon, service) if isinstance(one, Rereading))
        self.assertEqual(
            rereading.confinement,
            Confinement(f"{self.directory}/below", str(self.directory), os.geteuid()),
        )
        self.assertIn("portfwd.filters.builtin.sni", imported)


class PidFileTests(TapCase):
    """The file of rinetd's ``pidlogfile``."""

    def test_life(self) -> None:
        """Written at the start, removed at the end."""
        service = PidFile("run.pid")
        service.privilegedStartService()
        self.assertEqual(Path("run.pid").read_text(), f"{os.getpid()}\n")
        service.stopService()
        self.assertFalse(Path("run.pid").exists())

    def test_cannot_be_written(self) -> None:
        """A warning, as with rinetd; and nothing is removed in the end."""
        service = PidFile("nosuch/run.pid")
        told = EventsOf(self, PidFile)
        service.privilegedStartService()
        self.assertEqual(len(told.texts(LogLevel.warn)), 1)
        service.stopService()
        self.assertEqual(told.texts(LogLevel.info), [])

    def test_device(self) -> None:
        """A device is not removed."""
        os.symlink("/dev/null", "run.pid")
        service = PidFile("run.pid")
        service.privilegedStartService()
        service.stopService()
        self.assertTrue(os.path.islink("run.pid"))

    def test_not_ours(self) -> None:
        """A file that was not written by us is not removed by us: it may be a running forwarder's."""
        Path("run.pid").write_text("1\n")
        PidFile("run.pid").stopService()
        self.assertTrue(Path("run.pid").exists())

    def test_cannot_be_removed(self) -> None:
        """Without the right to remove it, it stays, and that is said."""
        service = PidFile("run.pid")
        service.privilegedStartService()
        os.unlink("run.pid")
        told = EventsOf(self, PidFile)
        service.stopService()
        self.assertEqual(len(told.texts(LogLevel.info)), 1)
