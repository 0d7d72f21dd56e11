"""The manual pages and completions in ``share/``: current, well-formed, and they complete in real shells."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1]
SHARE = ROOT / "share"
#: Stands for the program: notes its words, and says what a forwarder would.
PROGRAM = """\
#!/bin/sh
echo "$*" >> "$NOTED"
case "$*" in
    "complete rules") printf 'web\\nssh\\n' ;;
    "complete targets web") printf '10.0.0.5:80\\n10.0.0.6:80\\n' ;;
    "complete plugins filter") printf 'sni\\nsniff\\n' ;;
    "complete plugins check") printf 'http\\n' ;;
    "complete sessions") printf '71\\n82\\n' ;;
esac
"""
BASH = """\
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
"$(complete -p portfwd | sed 's/.*-F \\([^ ]*\\).*/\\1/')" portfwd "${@: -1}" "${@: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
#: Makes standard input the terminal that controls the process.
OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execvp(sys.argv[1], sys.argv[1:])"
)
#: What is typed before Tab, and what can follow.
CASES: Mapping[tuple[str, ...], set[str]] = {
    ("dra",): {"drain"},
    ("drain", ""): {"web", "ssh"},
    ("pause", "w"): {"web"},
    ("sessions", "--rule", ""): {"web", "ssh"},
    ("kill", ""): {"71", "82"},
    ("kill", "71", "8"): {"82"},
    ("tap", "7"): {"71"},
    ("target", "web", ""): {"10.0.0.5:80", "10.0.0.6:80"},
    ("target", "web", "10.0.0.6"): {"10.0.0.6:80"},
    ("help", "rel"): {"reload"},
    ("help", "filt"): {"filter", "filters"},
    ("help", "filter", "sn"): {"sni", "sniff"},
    ("help", "check", ""): {"http"},
    ("log-level", "w"): {"warn"},
    ("options", "max-as"): {"max-assocs"},
    ("init", "t"): {"tls", "toxiproxy"},
    ("run", "--dr"): {"--drain"},
}


class CurrentTests(SynchronousTestCase):
    """What is in ``share/``."""

    if missing := [name for name in ("shtab", "argparse_manpage") if find_spec(name) is None]:
        skip = f"needs {', '.join(missing)}, of the extra 'test'"

    def test_current(self) -> None:
        """Every file is what the command line gives; ``python -m docs.generate`` writes them."""
        from docs import program_files

        self.assertEqual([str(path) for path, _ in program_files.stale(SHARE)], [])

    def test_write(self) -> None:
        """What is missing is written, what is too much is removed, and then nothing is stale."""
        from docs import program_files

        share = Path(self.mktemp())
        (share / "man").mkdir(parents=True)
        (share / "man" / "old.1").write_text("")
        written = list(program_files.write(share))
        self.assertIn(share / "man" / "old.1", written)
        self.assertFalse((share / "man" / "old.1").exists())
        self.assertTrue((share / "man" / "man1" / "portfwd-run.1").exists())
        self.assertEqual(list(program_files.stale(share)), [])


class ManualTests(SynchronousTestCase):
    """Manual pages."""

    def test_sections(self) -> None:
        """Every page says what it is about, how it is called, what it returns, and gives an example."""
        pages = sorted((SHARE / "man" / "man1").glob("*.1"))
        self.assertGreater(len(pages), 20)
        for page in pages:
            text = page.read_text()
            name = page.name.removesuffix(".1").replace("-", r"\-")
            self.assertIn(f".SH NAME\n{name} \\- ", text)
            wanted = {"SYNOPSIS", "DESCRIPTION", "EXAMPLES", "SEE ALSO"}
            if page.name != "portfwd.1":
                wanted |= {"EXIT STATUS"}
            self.assertEqual(
                wanted - {line[4:] for line in text.splitlines() if line.startswith(".SH ")}, set()
            )

    def test_well_formed(self) -> None:
        """mandoc has no complaint."""
        if shutil.which("mandoc") is None:
            raise SkipTest("needs mandoc")
        pages = sorted((SHARE / "man" / "man1").glob("*.1"))
        done = subprocess.run(
            ["mandoc", "-T", "lint", "-W", "warning", *pages], capture_output=True, text=True, check=False
        )
        self.assertEqual((done.stdout, done.returncode), ("", 0))


class ShellTests(SynchronousTestCase):
    """Completion, in the shells themselves."""

    def setUp(self) -> None:
        """A program that answers, first on the path."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        program = directory / "portfwd"
        program.write_text(PROGRAM)
        program.chmod(0o755)
        self.noted = directory / "noted"
        self.environment = os.environ | {
            "PATH": f"{directory}:{os.environ['PATH']}",
            "NOTED": os.fspath(self.noted),
            "HOME": os.fspath(directory),
            "TERM": "dumb",
        }

    def run_shell(self, *command: str) -> set[str]:
        """The lines that it prints."""
        if shutil.which(command[0]) is None:
            raise SkipTest(f"needs {command[0]}")
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=60, check=False
        )
        self.assertEqual(done.stderr, "")
        return {line.partition("\t")[0].strip() for line in done.stdout.splitlines()} - {""}

    def test_bash(self) -> None:
        """bash completes commands, options, rules and sessions."""
        file = os.fspath(SHARE / "bash-completion" / "completions" / "portfwd")
        for words, expected in CASES.items():
            found = self.run_shell("bash", "-c", BASH, "bash", file, "portfwd", *words)
            self.assertEqual(found, expected, words)

    def test_fish(self) -> None:
        """So does fish."""
        file = SHARE / "fish" / "vendor_completions.d" / "portfwd.fish"
        for words, expected in CASES.items():
            line = " ".join(["portfwd", *words])
            found = self.run_shell("fish", "-c", f"source '{file}'; complete -C '{line}'")
            self.assertEqual(found, expected, words)

    def test_zsh(self) -> None:
        """So does zsh, on a terminal: where one word fits, Tab writes it."""
        if shutil.which("zsh") is None:
            raise SkipTest("needs zsh")
        typed = [f"fpath=({SHARE}/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u -D"]
        expected = []
        for words, found in CASES.items():
            if len(found) == 1 and words[0] != "dra":
                (word,) = found
                typed.append(f"portfwd {' '.join(words)}\t")
                expected.append(" ".join([*words[:-1], word]))
        typed += ["exit", ""]
        self.type_into("zsh", "-f", "-i", text="\n".join(typed))
        ran = [line for line in self.noted.read_text().splitlines() if not line.startswith("complete ")]
        self.assertEqual(ran, expected)

    def type_into(self, *command: str, text: str) -> None:
        """Run a program on a terminal of its own until it ends."""
        controller, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *command],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            env=self.environment,
        )
        os.close(terminal)
        os.write(controller, text.encode())
        try:
            while os.read(controller, 4096):
                pass
        except OSError:
            pass  # the terminal is closed
        finally:
            os.close(controller)
            process.wait(60)
