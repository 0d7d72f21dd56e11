# -*- test-case-name: tests.service.run.test_reload -*-
"""Applies the options of a new rule to the listening sockets that a reload keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from portfwd.kernel.socket_options import change_settings, listening_settings
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.listen.listener import Listener
from portfwd.relay.live import LiveRule
from portfwd.service.build.bind_failures import listen_label
from portfwd.service.build.build import Planned


def adapt(listeners: Sequence[Listener | DatagramClients], old: LiveRule, planned: Planned) -> Iterator[str]:
    """
    Change the options of `listeners`, which served `old`, to those of the planned rule.

    :returns: a note for each option that cannot be changed.
    """
    new = planned.live
    before, after = old.rule.listen.options, new.rule.listen.options
    label = listen_label(new.rule.listen, planned.offset)
    for listener in listeners:
        try:
            listener.resize(after.backlog)
            settings = listening_settings(old.options), listening_settings(new.options)
            if not change_settings(listener.sock, *settings):
                yield f"{label}: a buffer size that was set stays with its listener until the next start"
        except OSError as problem:
            yield f"{label}: an option of the listener stays as it was: {problem.strerror}"
        if before.mode != after.mode and listener.file is not None:
            try:
                listener.file.change_mode(after.mode)
            except OSError as problem:
                yield f"{label}: its permission bits stay as they were: {problem.strerror}"
