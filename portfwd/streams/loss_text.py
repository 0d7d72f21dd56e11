# -*- test-case-name: tests.streams.transports.test_transport -*-
"""
The texts of broken connections in the log, equal for all kinds of streams.

These are the texts of ``strerror``; TLS has its own.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet import error
from twisted.python.failure import Failure

from portfwd.streams.transports.tls_failures import TLSBroken, explain_loss


def error_text(code: int) -> str:
    """
    The text of an error of a connection.

    :param code: errno. 0 counts as a reset, and so does EPIPE, which means that the peer has reset before.
    """
    return os.strerror(errno.ECONNRESET if code in (0, errno.EPIPE) else code)


def loss_text(reason: Failure, code: int | None) -> str:
    """
    The text of the loss of a transport, in one line.

    :param reason: the failure from Twisted.
    :param code: errno of the error; 0 for none; None if the transport does not tell.
    """
    problem: Any = reason.value
    if reason.check(TLSBroken):
        return str(problem)
    if reason.check(error.ConnectionLost):
        # Twisted has the same text for all of them.
        told = ", ".join(str(one) for one in problem.args)
        return told if told and not code else error_text(code or 0)
    return explain_loss(reason)
