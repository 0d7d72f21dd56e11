# -*- test-case-name: tests.streams.transports.test_transport -*-
"""
What the log says of a connection that broke, in one spelling for every kind of stream.

The kernel's words for the error, as ``strerror`` has them; TLS has its own.
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
    An error of a connection in words.

    :param code: errno. 0, and EPIPE, which says only that the peer had reset before, count as a reset.
    """
    return os.strerror(errno.ECONNRESET if code in (0, errno.EPIPE) else code)


def loss_text(reason: Failure, code: int | None) -> str:
    """
    The loss of a transport in one line.

    :param reason: what Twisted gave for it.
    :param code: errno of the error that broke it, 0 for none; None where the transport does not tell.
    """
    problem: Any = reason.value
    if reason.check(TLSBroken):
        return str(problem)
    if reason.check(error.ConnectionLost):
        # Twisted's words for every one of them are the same.
        told = ", ".join(str(one) for one in problem.args)
        return told if told and not code else error_text(code or 0)
    return explain_loss(reason)
