"""
Small mistakes that people make in rules files, and what ``portfwd check`` says about each.

``mistakes/`` has one mistake per file, or several of one kind, one per line; its names say which. The texts
about all of them stand in ``mistakes.txt``. After a change that was meant, ``python -m tests.cli.mistakes``
writes them anew; read the difference.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
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
from portfwd.rules import everything_wrong
from portfwd.service.tap import ForwarderOptions, read_rules
for name in sys.argv[1:]:
    options = ForwarderOptions()
    options.parseOptions(["-c", name])
    try:
        read_rules(options)
    except RulesError as refusal:
        for one in everything_wrong(refusal):
            if one.severity is Severity.ERROR:
                print(str(one).replace(os.getcwd() + os.sep, ""))
"""


def check(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run ``portfwd check`` on all files in `directory`, as a user does."""
    return run(directory, "-m", "portfwd.cli.main", "check", *prepare(directory))


def start(directory: Path) -> str:
    """The errors with which starts refuse the files that `prepare` has put into `directory`."""
    names = sorted(path.name for path in FILES.iterdir())
    return run(directory, "-c", START, *names).stdout


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
