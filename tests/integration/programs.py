"""
The other programs of a test: found, started, waited for, ended.

Programs that cannot bind port 0 get a port that was free a moment ago; `Program`
notices when another process was quicker, because the program then ends.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twisted.trial import unittest

from tests.integration.forwarder import TIMEOUT, wait_until


def needs(program: str) -> str:
    """The full path of `program`; skips the test where it is not installed."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *_postgresql()])
    found = shutil.which(program, path=path)
    if found is None:
        raise unittest.SkipTest(f"needs {program}")
    return found


def _postgresql() -> list[str]:
    """Debian keeps the server's programs out of PATH, newest last."""
    return [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


def needs_root() -> None:
    """Skip the test unless it runs as root."""
    if os.geteuid() != 0:
        raise unittest.SkipTest("needs root")


def run(
    *command: str,
    seconds: float = 60,
    environment: Mapping[str, str] | None = None,
    check: bool = True,
    data: bytes | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """
    Run a client program to its end.

    :raises AssertionError: if it takes longer than `seconds`, or fails and `check` is set.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=seconds,
            env=None if environment is None else os.environ | dict(environment),
            check=False,
            input=b"" if data is None else data,
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"") + (error.stderr or b"")
        raise AssertionError(f"{command} takes longer than {seconds} s: {said!r}") from None
    if check and done.returncode:
        raise AssertionError(f"{command} failed with {done.returncode}: {done.stdout!r} {done.stderr!r}")
    return done


class Program:
    """
    A server program in the background.

    :param command: what to run, in the foreground.
    :param log: file for its output.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else os.environ | dict(environment),
                cwd=log.parent,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def wait(self, seconds: float = 60) -> int:
        """The exit code, once the program has ended."""
        return self._process.wait(seconds)

    def wait_until(self, reached: Callable[[], bool], what: str) -> None:
        """Wait for the program to be ready; fails at once when it has ended instead."""

        def there() -> bool:
            if self._process.poll() is not None:
                raise AssertionError(f"{what}: ended with {self._process.returncode}: {self.log.read_text()}")
            return reached()

        wait_until(there, TIMEOUT, lambda: f"{what}: not in time: {self.log.read_text()}")

    def wait_for_port(self, port: int, host: str = "127.0.0.1") -> None:
        """Wait until it accepts connections."""

        def accepts() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((host, port)) == 0

        self.wait_until(accepts, f"port {port}")

    def clean_up(self) -> None:
        """End it, gently first."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait(TIMEOUT)


def temporary_directory(case: unittest.SynchronousTestCase) -> Path:
    """
    A directory of the test's own, removed afterwards.

    Its path is short: the name of a unix socket has at most 107 bytes.
    """
    path = Path(tempfile.mkdtemp(prefix="portfwd-"))
    case.addCleanup(shutil.rmtree, path, ignore_errors=True)
    return path
