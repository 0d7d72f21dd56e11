# -*- test-case-name: tests.service.run.test_checking -*-
"""A check by a program: its arguments, its output and its exit status."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any, Final, cast

from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from portfwd.relay.context import RelayContext
from portfwd.service.build.checks import ReadyCheck
from portfwd.service.run.check_results import Done, NoVerdict, RaisedVerdict
from portfwd.upstreams.checks.api import Subject
from portfwd.upstreams.health import Verdict

#: Bytes of a program's output that are kept.
MAX_OUTPUT: Final = 4096

#: Errors of `reactor.spawnProcess` that are a lack of resources of this process or machine.
_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


class CommandRun(ProcessProtocol):
    """A program, without a shell."""

    def __init__(self, ready: ReadyCheck, subject: Subject, context: RelayContext, done: Done) -> None:
        self._check = ready.check
        self._subject = subject
        self._context = context
        self._done = done
        self._output = b""
        self._is_done = False
        self.judged = True
        self._process: Any = None

    def __repr__(self) -> str:
        return f"<CommandRun {'done' if self._is_done else 'under way'}>"

    def start(self) -> None:
        """See `Run`."""
        subject = self._subject
        try:
            arguments = list(self._check.arguments(subject))
        except Exception:
            self._finish(RaisedVerdict.of(Failure()))
            return
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PORTFWD_TARGET": subject.label,
            "PORTFWD_HOST": subject.host,
            "PORTFWD_PORT": str(subject.port),
        }
        reactor = cast(IReactorProcess, self._context.reactor)
        try:
            self._process = reactor.spawnProcess(self, arguments[0], arguments, environment)
        except OSError as error:
            why = f"{arguments[0]} cannot be run: {error.strerror or error}"
            self._finish(NoVerdict(why) if error.errno in _RESOURCES else Verdict(False, why))
        except Exception:
            self._finish(RaisedVerdict.of(Failure()))

    def outReceived(self, data: bytes) -> None:
        """Keep the first bytes."""
        self._output += data[: MAX_OUTPUT - len(self._output)]

    def processEnded(self, reason: Failure) -> None:
        """The program has exited, and its output is closed."""
        status = 0 if reason.check(ProcessDone) else getattr(reason.value, "exitCode", None)
        if self._is_done:
            return
        try:
            verdict = self._check.exited(status, self._output)
        except Exception:
            verdict = RaisedVerdict.of(Failure())
        self._finish(verdict)

    def cancel(self) -> None:
        """See `Run`: the program is killed."""
        self._is_done = True
        if self._process is not None:
            with contextlib.suppress(ProcessExitedAlready):
                self._process.signalProcess("KILL")

    def _finish(self, verdict: Verdict | NoVerdict | None) -> None:
        self._is_done = True
        self._done(verdict)
