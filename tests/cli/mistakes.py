"""
Small mistakes that people make in rules files, and what ``portfwd check`` says about each.

``mistakes/`` has one mistake per file, or several of one kind, one per line; its names say which. The texts
about all of them stand in ``mistakes.txt``. After a change that was meant, ``python -m tests.cli.mistakes``
writes them anew; read the difference.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

HERE = Path(__file__).parent
FILES = HERE / "mistakes"
TEXTS = HERE / "mistakes.txt"
ROOT = HERE.parents[1]
#: Modules that a ``filter`` line names and that cannot be imported.
MODULES = {
    "bad.py": "import nosuchmodule\n",
    "boom.py": "raise RuntimeError('boom at import')\n",
    "synt.py": "def x(:\n",
}

#: One mistake that each phase of examining a file finds, on lines that can stand in one file.
PHASES = {
    "reading": "p1: 127.0.0.1:25901 -> 127.0.0.1:9 ilde=5m\n",
    "verifying": "p2: 127.0.0.1:25902 -> 127.0.0.1:9\n    route x -> 127.0.0.1:9\n",
    "support": "p3: 127.0.0.1:25903 -> tls:127.0.0.1:9 relay=copy\n",
    "filters": "p4: 127.0.0.1:25904 -> 127.0.0.1:9\n    filter nonesuch\n",
    "checks": "p5: 127.0.0.1:25905 -> 127.0.0.1:9\n    check nonesuch\n",
    "openings": "p6: unix:none/socket -> 127.0.0.1:9\n",
    "operators": "p7: 127.0.0.1:25907 -> 127.0.0.1:9\nadmin unix:none/admin.sock\n",
    "tls": "p8: tls:127.0.0.1:25908 cert=none.pem -> 127.0.0.1:9\n",
}
#: The phases after the rules were read: a file with such mistakes alone has no error of its text.
JUDGED = ("support", "filters", "checks", "openings", "operators", "tls")


def prepare(directory: Path) -> list[str]:
    """Copy the files, make the certificates and modules that they name, and return the files' names."""
    for path in FILES.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    for name, text in MODULES.items():
        (directory / name).write_text(text)
    authority = trustme.CA()
    good, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    expired = authority.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    good_key = good.private_key_pem.bytes()
    locked = serialization.load_pem_private_key(good_key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    for name, data in {
        "good.pem": good.cert_chain_pems[0].bytes(),
        "good.key": good_key,
        "other.key": other.private_key_pem.bytes(),
        "enc.key": locked,
        "exp.pem": expired.cert_chain_pems[0].bytes(),
        "exp.key": expired.private_key_pem.bytes(),
        "garbage.pem": b"this is no certificate\n",
        "empty.pem": b"",
    }.items():
        file = directory / name
        file.touch(0o600)
        file.write_bytes(data)
    (directory / "emptydir").mkdir()
    return sorted(path.name for path in FILES.iterdir())


#: Prints what a start says of each file: its errors, as ``check`` prints them, or nothing.
START = """\
import os, sys
from portfwd.errors import RulesError, Severity
from portfwd.service.tap import ForwarderOptions, read_rules
for name in sys.argv[1:]:
    options = ForwarderOptions()
    options.parseOptions(["-c", name])
    try:
        read_rules(options)
    except RulesError as refusal:
        for one in refusal.problems:
            if one.severity is Severity.ERROR:
                print(str(one).replace(os.getcwd() + os.sep, ""))
"""


def combine(directory: Path) -> dict[str, tuple[str, ...]]:
    """
    Make files with mistakes of several phases: pairs, and the files that `prepare` has copied with others.

    :returns: the phases whose mistakes each file has besides those of the file whose name it begins with.
    """
    made: dict[str, tuple[str, ...]] = {}

    def make(name: str, text: bytes, phases: tuple[str, ...]) -> None:
        (directory / name).write_bytes(text + "".join(PHASES[phase] for phase in phases).encode())
        made[name] = phases

    for pair in combinations(PHASES, 2):
        make(f"{'+'.join(pair)}.conf", b"", pair)
    for path in sorted(FILES.iterdir()):
        text = path.read_bytes().rstrip(b"\n") + b"\n"
        make(f"{path.stem}+judged.conf", text, JUDGED)
        make(f"{path.stem}+all.conf", text, tuple(PHASES))
    return made


def check(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run ``portfwd check`` on all files in `directory`, as a user does."""
    return check_files(directory, prepare(directory))


def check_files(directory: Path, names: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """Run ``portfwd check`` on files in `directory`."""
    return run(directory, "-m", "portfwd.cli.main", "check", *names)


def errors_of(output: str, directory: Path) -> list[str]:
    """The first line of each error in the output of ``check``, without the path of `directory`."""
    found = (line for line in output.splitlines() if re.match(r"\S+: error: ", line))
    return [line.replace(f"{directory.resolve()}{os.sep}", "") for line in found]


def start(directory: Path, names: Iterable[str]) -> list[str]:
    """The errors with which starts refuse files in `directory`."""
    return run(directory, "-c", START, *names).stdout.splitlines()


def run(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in `directory`, whose modules can be imported."""
    path = os.pathsep.join([str(ROOT), str(directory)])
    return subprocess.run(
        [sys.executable, *words],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=False,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        TEXTS.write_text(check(Path(made)).stdout)
