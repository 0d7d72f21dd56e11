"""One list of what a start opens: ``check`` and the start refuse the same, and warn of the same."""

from __future__ import annotations

import os
import re
import socket
import sys
from unittest import mock

from portfwd.errors import Severity, StartError
from portfwd.extras import how_to_install
from portfwd.service import tap
from portfwd.service.build.openings import opening_problems
from tests.cli.running import CommandTestCase
from tests.service.contexts import a_free_port, a_used_port, rules, take_port
from tests.service.pems import CA, write_pair
from tests.service.test_tap import TapCase, parsed

RULE = ":0 -> 127.0.0.1:9"


class OpeningCase(CommandTestCase, TapCase):
    """A directory with the files of the tests."""

    def setUp(self) -> None:
        """A private directory, a file that is none of keys, a directory that others may enter."""
        super().setUp()
        (self.directory / "private").mkdir(mode=0o700)
        (self.directory / "open").mkdir(mode=0o755)
        self.write("", "no-keys")
        self.write("loose", "loose")
        (self.directory / "loose").chmod(0o666)

    def start(self, text: str) -> int:
        """
        Start, and stop again; what it says is `errors`.

        :returns: the exit status, 0 for a start that succeeds.
        """
        path = self.write(text)
        self.errors.truncate(0)
        self.errors.seek(0)
        options = parsed("-c", path)
        options.parent = {"nodaemon": True, "pidfile": ""}
        try:
            service = tap.makeService(options)
            self.addCleanup(service.session_log.close, 1.0)  # type: ignore[attr-defined]
            service.privilegedStartService()
        except SystemExit as end:
            return int(end.code or 0)
        except StartError as problem:
            self.errors.write("\n".join(problem.failures))
            return 1
        self.addCleanup(service.stopService)
        return 0

    def check(self, text: str) -> tuple[int, str]:
        """``portfwd check``: its exit status, and what it says."""
        errors = sys.stderr
        status, output, _ = self.run_main("check", self.write(text))
        self.patch(sys, "stderr", errors)
        return status, output


class RefusedTests(OpeningCase):
    """What a start needs, and does not get."""

    def refused(self, text: str, said: str, place: str = "rules.conf:1:") -> None:
        """`check` refuses a file for `said`, at `place`, and so does a start."""
        text += f"\n{RULE}\n"
        status, output = self.check(text)
        self.assertEqual(status, 2, (text, output))
        self.assertIn(said, output)
        self.assertIn(place, output)
        self.assertNotEqual(self.start(text), 0, text)
        self.assertIn(said, self.errors.getvalue())
        self.assertIn(place, self.errors.getvalue())

    def test_sockets(self) -> None:
        """The directory of a socket is there, whoever listens on it."""
        for line in (
            "admin unix:none/a.sock",
            "metrics unix:none/a.sock",
            "web unix:none/a.sock",
            "manhole unix:none/a.sock keys=no-keys",
            "unix:none/a.sock -> 127.0.0.1:9",
            "unix-dgram:none/a.sock -> udp:127.0.0.1:9",
        ):
            self.refused(line, f"there is no directory '{self.directory}/none'")

    def test_paths_of_sockets(self) -> None:
        """Only a socket may be at the path of a socket, whoever listens on it."""
        os.mkfifo(self.directory / "fifo")
        for path, said in (
            ("private", "a directory is there"),
            ("no-keys", "a file that is not a socket is there"),
            ("fifo", "a file that is not a socket is there"),
        ):
            for line in (
                f"admin unix:{path}",
                f"metrics unix:{path}",
                f"web unix:{path}",
                f"unix:{path} -> 127.0.0.1:9",
                f"unix-dgram:{path} -> udp:127.0.0.1:9",
            ):
                self.refused(line, said)

    def test_key_log(self) -> None:
        """A keylog= that a start cannot create is refused by both, and is not created."""
        cert, key = write_pair(self.directory, "pair", CA.issue_cert("a.example"))
        for path in ("none/k", "/proc/x", "no-keys/k", "private"):
            self.refused(
                f"tls:127.0.0.1:0 cert={cert} key={key} keylog={path} -> 127.0.0.1:9", f"keylog={path}: "
            )

    def test_directories_of_units(self) -> None:
        """The hint for a directory that a unit of systemd makes names the unit's setting."""
        with mock.patch("os.path.isdir", lambda path: False):
            for line, setting in (
                ("admin unix:/run/some/a.sock", "RuntimeDirectory=some"),
                ("status-file /var/lib/some/s", "StateDirectory=some"),
                ("log file=/var/log/some/x.log", "LogsDirectory=some"),
                ("admin unix:/srv/some/a.sock", None),
                ("admin unix:/run/some/more/a.sock", None),
            ):
                (problem,) = opening_problems(rules(f"{line}\n{RULE}\n"))
                self.assertEqual(problem.code, "no-directory")
                found = re.search(r"a unit of systemd with (\S+) makes it", problem.hint)
                self.assertEqual(found and found[1], setting, problem.hint)

    def test_manhole(self) -> None:
        """The keys of a manhole are there, are keys, and nobody else can change them or reach the socket."""
        for line, said in (
            ("manhole ssh:127.0.0.1:2222 keys=gone", "No such file"),
            ("manhole ssh:127.0.0.1:2222 keys=private", "Is a directory"),
            ("manhole ssh:127.0.0.1:2222 keys=no-keys", "contains no key"),
            ("manhole ssh:127.0.0.1:2222 keys=loose", "is accessible to others"),
            ("manhole unix:open/a.sock keys=no-keys", "is accessible to others"),
            ("manhole ssh:127.0.0.1:2222 keys=no-keys host-key=none/key", "there is no directory"),
            ("manhole ssh:127.0.0.1:2222 keys=no-keys host-key=loose", "is accessible to others"),
        ):
            self.refused(line, said)

    def test_web(self) -> None:
        """The token of a web listener is there, is one, and nobody else can read it."""
        self.write("", "empty")
        (self.directory / "empty").chmod(0o600)
        for token, said in (
            ("gone", "No such file"),
            ("private", "Is a directory"),
            ("empty", "has no token"),
            ("loose", "is accessible to others"),
        ):
            self.refused(f"web unix:private/w.sock token-file={token}", said)

    def test_endpoints(self) -> None:
        """The kind of an endpoint exists and takes the arguments, for listeners and targets."""
        for line in ('endpoint:"foo:bar" -> 127.0.0.1:9', '127.0.0.1:0 -> endpoint:"foo:bar"'):
            self.refused(line, "Unknown endpoint type: 'foo'")
        self.refused('endpoint:"tcp:web:banana=1" -> 127.0.0.1:9', "banana")

    def test_endpoints_that_adapt_the_reactor(self) -> None:
        """A parser that adapts the reactor to an interface, as the quick start's does, is no problem."""
        self.assertEqual(opening_problems(rules('a: 127.0.0.1:0 -> endpoint:"portfwd-greeting:"\n')), ())

    def test_endpoints_of_systemd(self) -> None:
        """`check` does not judge which sockets systemd will pass."""
        for description in ("systemd:domain=INET:index=0", "haproxy:systemd:domain=INET:index=0"):
            self.assertEqual(opening_problems(rules(f'endpoint:"{description}" -> 127.0.0.1:9\n')), ())

    def test_status_file(self) -> None:
        """A status file that cannot be written is a warning: the forwarder starts without it."""
        there = self.mktemp()
        os.mkdir(there)
        for path, said in ((f"{there}/gone/s", "there is no directory"), (there, "is a directory")):
            (problem,) = opening_problems(rules(f"status-file {path}\n{RULE}\n"))
            self.assertIn(said, problem.message)
            self.assertIs(problem.severity, Severity.WARNING)
        self.assertEqual(opening_problems(rules(f"status-file {there}/s\n{RULE}\n")), ())

    def test_extras(self) -> None:
        """A package that a line needs is installed; the message has the command that installs it."""
        for module, line, extra in (
            ("twisted.conch.ssh.keys", "manhole ssh:127.0.0.1:2222 keys=no-keys", "manhole"),
            ("prometheus_client", f"metrics 127.0.0.1:{a_free_port()}", "metrics"),
        ):
            with mock.patch.dict(sys.modules, {module: None}):
                (problem, *_) = opening_problems(rules(f"{line}\n{RULE}\n"))
                self.assertEqual(problem.code, "not-installed")
                self.assertEqual(self.start(f"{line}\n{RULE}\n"), 2)
            for said in (problem.hint, self.errors.getvalue()):
                self.assertIn(how_to_install(extra), said)

    def test_toxiproxy(self) -> None:
        """The file with proxies can be read, and is a list; so can the directory of its unix socket."""
        path = self.mktemp()
        for text, code in ((None, "unreadable-file"), ("{}", "json-syntax"), ("[]", None)):
            if text is not None:
                with open(path, "w") as file:
                    file.write(text)
            problems = opening_problems(rules(f"toxiproxy localhost:8474 config={path}\n"))
            self.assertEqual([one.code for one in problems], [code] if code else [])
        (problem,) = opening_problems(rules("toxiproxy unix:/nowhere/at/all/s\n"))
        self.assertEqual(problem.code, "no-directory")

    def test_what_other_lists_have(self) -> None:
        """Files of TLS, filters, addresses that exclude each other, and what cannot be done yet."""
        for line, said in (
            ("tls:127.0.0.1:0 -> 127.0.0.1:9", "cert"),
            ("tls:127.0.0.1:0 cert=gone -> 127.0.0.1:9", "gone"),
            ("127.0.0.1:0 -> tls:127.0.0.1:9 ca=gone", "gone"),
            ("127.0.0.1:0 -> 127.0.0.1:9\n  filter nothing-like-it", "nothing-like-it"),
            ("127.0.0.1:0 -> tls:127.0.0.1:9 verify=off relay=copy", "no plain socket"),
            ("127.0.0.1:1022 -> 127.0.0.1:9\nmetrics 127.0.0.1:1022", "listen"),
            ("0.0.0.0:1022 -> 127.0.0.1:9\n127.0.0.1:1022 -> 127.0.0.1:9", "listens on every address"),
        ):
            self.refused(line, said, "rules.conf:")


class WarnedTests(OpeningCase):
    """What the forwarder does without."""

    def warned(self, text: str, said: str, place: str) -> None:
        """`check` warns of `said` at `place`, and a start warns and goes on."""
        for status, output in (self.check(text), (self.start(text), self.errors.getvalue())):
            self.assertEqual(status, 0, (text, output))
            self.assertEqual(output.count(said), 1, output)
            self.assertIn(f"{place}: warning: ", output)

    def test_files(self) -> None:
        """Logs, records, copies and pid files are written where there is a directory, into a file."""
        for path, said in (
            ("none/x", f"there is no directory '{self.directory}/none'"),
            ("private", "private' is a directory"),
        ):
            rule = f"a: 127.0.0.1:0 -> 127.0.0.1:9\n  filter record file={self.directory}/{path}"
            self.warned(rule, said, "rules.conf:2:22")
            self.warned(rule.replace("record", "tee"), said, "rules.conf:2:19")
            self.warned(f"log file={path}\n{RULE}", said, "rules.conf:1:1")
            self.warned(f"pidlogfile {path}\n{RULE}", said, "rules.conf")

    def test_permission(self) -> None:
        """What this user may not write is told, with the user's number."""
        with mock.patch("os.access", lambda *_: False):
            (problem,) = opening_problems(rules(f"log file={self.directory}/x.log\n{RULE}\n"))
        self.assertIn("Permission denied", problem.message)
        self.assertIn(str(os.geteuid()), problem.hint)

    def test_good(self) -> None:
        """What can be opened is not complained about, and nothing is made."""
        text = (
            f"admin unix:private/a.sock\nmetrics 127.0.0.1:9\nweb unix:private/w.sock\nlog file=x.log\n"
            f"{RULE}\n"
            f'  filter tee file={self.directory}/copy\nunix:@name -> endpoint:"tcp:127.0.0.1:9"\n'
        )
        before = sorted(os.listdir(self.directory))
        self.assertEqual(opening_problems(rules(text)), ())
        self.assertEqual(sorted(os.listdir(self.directory)), before)


class BindTests(OpeningCase):
    """What only a start can know."""

    def test_taken(self) -> None:
        """Whoever cannot listen names the line of the file."""
        port, path = a_used_port(self), str(self.directory / "private" / "busy")
        busy = socket.socket(socket.AF_UNIX)
        self.addCleanup(busy.close)
        busy.bind(path)
        busy.listen()
        for line in (
            f"127.0.0.1:{port} -> 127.0.0.1:9",
            f"metrics 127.0.0.1:{port}",
            f"admin unix:{path}",
            f"web 127.0.0.1:{port}",
            f"web unix:{path}",
            f'endpoint:"tcp:{port}:interface=127.0.0.1" -> 127.0.0.1:9',
        ):
            self.assertEqual(self.start(f"# a comment\n{line}\n{RULE}\n"), 1, line)
            said = self.errors.getvalue()
            self.assertRegex(said, r"in use \(.*/rules\.conf:2:\d+\); .*\n")

    def test_taken_between(self) -> None:
        """So does one whose port was taken since it was bound."""
        port = a_free_port()
        options = parsed("-c", self.write(f"127.0.0.1:{port} -> 127.0.0.1:9\n"))
        service = tap.makeService(options)
        self.addCleanup(service.session_log.close, 1.0)  # type: ignore[attr-defined]
        service.privilegedStartService()
        take_port(self, port)
        said = self.leaves(1, service.startService)
        self.assertRegex(said, r"in use \(.*/rules\.conf:1:1\); .*\n")
