"""Tests of `portfwd.cli.main`: the command line itself."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

from twisted.trial.unittest import SkipTest

from portfwd import __version__
from portfwd.cli.main import MODULES
from portfwd.cli.parsing import Parser
from tests.cli.running import GOOD, CommandTestCase

#: Runs the command with the words behind it, then says which modules of Twisted's reactor it has imported.
WATCH = """
import sys
from portfwd.cli.main import main
code = main(sys.argv[1:])
loaded = [name for name in sys.modules if name.startswith("twisted.") and name.endswith("reactor")]
print("loaded:", *sorted(loaded), file=sys.stderr)
raise SystemExit(code)
"""

#: Runs the command with the words behind it; its exit code, or 9 if a standard descriptor is no null device.
CLOSED = """
import os
import stat
import sys
from portfwd.cli.main import main
code = main(sys.argv[1:])
modes = [os.fstat(number).st_mode for number in range(3)]
raise SystemExit(code if not any(stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode) for mode in modes) else 9)
"""


#: Runs the command with the words behind it, then says which modules of commands it has imported.
COMMANDS = """
import sys
from portfwd.cli.main import MODULES, main
code = main(sys.argv[1:])
print(*(name for name in MODULES if f"portfwd.cli.{name}" in sys.modules), file=sys.stderr)
raise SystemExit(code)
"""


class MainTests(CommandTestCase):
    """Help, version and mistakes."""

    def test_modules(self) -> None:
        """Each module adds the commands of the table, and only that of a command is imported for it."""
        for module, names in MODULES.items():
            commands = Parser().add_subparsers()
            import_module(f"portfwd.cli.{module}").add_parser(commands)
            self.assertEqual(tuple(commands.choices), names, module)
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS, "hash-password", "alice"],
            input="secret\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr.split()), (0, ["hash_password"]))

    def test_version(self) -> None:
        """``--version`` says name and version."""
        self.assertEqual(self.run_main("--version"), (0, f"portfwd {__version__}\n", ""))

    def test_help(self) -> None:
        """Help has an example for each command, and points to twistd; so has the help of each."""
        code, out, _ = self.run_main("--help")
        self.assertEqual(code, 0)
        self.assertIn("twistd portfwd", out)
        for command in (
            "run",
            "init",
            "check",
            "explain",
            "convert",
            "filters",
            "help",
            "hash-password",
            "replay",
        ):
            self.assertRegex(out, rf"\n  portfwd {command}\b")
            code, own, _ = self.run_main(command, "--help")
            self.assertEqual(code, 0)
            self.assertRegex(own, rf"examples?:\n  portfwd {command}\b")
            self.assertIn("exit codes:\n  0  ", own)

    def test_mistakes(self) -> None:
        """A wrong command line is exit code 2, with one line on standard error that says where help is."""
        for words in (("check",), ("explain", "a"), ("check", "--jsno", "x"), ("top", "--sort", "x")):
            code, out, err = self.run_main(*words)
            self.assertEqual((code, out, err.count("\n")), (2, "", 1), words)
            self.assertRegex(err, r"\Aportfwd[a-z ]*: .*--help'\n\Z")

    def test_unknown_command(self) -> None:
        """A command that is not there is answered with the nearest one."""
        for words in (("chekc", "x"), ("help", "chekc")):
            code, out, err = self.run_main(*words)
            self.assertEqual((code, out), (2, ""))
            self.assertEqual(err, "portfwd: there is no command 'chekc'; did you mean 'check'?\n")
        for word, hint in (
            ("version", "did you mean '--version'?"),
            ("forward", "it is a template: 'portfwd init forward' writes it"),
            ("sniff", "'portfwd help filter sniff' describes it"),
            ("http", "'portfwd help check http' describes it"),
            ("max-conns", "'portfwd options max-conns' describes it"),
        ):
            for words in ((word,), ("help", word)):
                self.assertEqual(self.run_main(*words)[2], f"portfwd: there is no command '{word}'; {hint}\n")
        self.assertIn("'portfwd help' lists the commands", self.run_main("xyzzy")[2])

    def test_help_of_all(self) -> None:
        """Without a command, and by ``help``, the help of all is printed; ``help COMMAND`` prints its own."""
        everything = self.run_main("--help")
        self.assertEqual(self.run_main(), everything)
        self.assertEqual(self.run_main("help"), everything)
        for command in ("check", "top", "help"):
            self.assertEqual(self.run_main("help", command), self.run_main(command, "--help"))


class ProcessTests(CommandTestCase):
    """The command as a process of its own."""

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start Python with the project on its path."""
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        return subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )

    def start_in_shell(self, script: str, *words: str) -> subprocess.Popen[bytes]:
        """Let a shell start Python, to which it closes descriptors; the others are the null device."""
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        return subprocess.Popen(
            ["sh", "-c", script, "sh", sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": root},
        )

    def test_no_reactor(self) -> None:
        """No command imports a reactor, whatever the file has in it."""
        path = self.file(
            "admin unix:/run/admin.sock\nmetrics 127.0.0.1:9100\nmanhole ssh:127.0.0.1:2222 keys=/none\n"
            + GOOD
            + 'e: endpoint:"tcp:90" -> tls:one.example:443\n    filter socks5\n'
        )
        for words in (("check", path), ("explain", path, "10.1.0.2", ":8080"), ("convert", path)):
            out, err = self.start("-c", WATCH, *words).communicate(timeout=60)
            self.assertTrue(out)
            self.assertEqual(err, "loaded:\n")

    def test_module(self) -> None:
        """``python -m portfwd.cli.main`` is the command; a name that is no UTF-8 is shown escaped."""
        process = self.start("-m", "portfwd.cli.main", "check", os.fsdecode(b"no\xff.conf"))
        out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, err), (1, ""))
        self.assertIn(r"no\udcff.conf: 1 error", out)

    def test_reader_gone(self) -> None:
        """After the reader has closed the output, the command ends without a traceback."""
        path = self.file(GOOD)
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as gone:
            root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
            process = subprocess.run(
                [sys.executable, "-m", "portfwd.cli.main", "convert", path],
                stdout=gone,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": root},
                timeout=60,
                check=False,
            )
        self.assertEqual((process.returncode, process.stderr), (1, ""))

    def test_closed_descriptors(self) -> None:
        """
        A standard descriptor that was closed is open again, so that no socket gets its number.

        It is the null device, unless an import has opened a file since: ctypes of Python 3.14 opens libffi.
        """
        path = self.file(GOOD)
        for number in range(3):
            process = self.start_in_shell(f'exec "$@" {number}>&-', "-c", CLOSED, "check", path)
            self.assertEqual(process.wait(60), 0, number)

    def test_full_disk(self) -> None:
        """Output that a full disk does not take is an error with its reason, and no traceback."""
        if not os.path.exists("/dev/full"):
            raise SkipTest("needs /dev/full")
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        for words in (["help"], ["check", "/nowhere"], ["filters"]):
            with open("/dev/full", "w") as full:
                done = subprocess.run(
                    [sys.executable, "-m", "portfwd.cli.main", *words],
                    stdout=full, stderr=subprocess.PIPE, text=True, check=False,
                    env={**os.environ, "PYTHONPATH": root},
                )  # fmt: skip
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stderr, "portfwd: the output cannot be written: No space left on device\n")
