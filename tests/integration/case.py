"""
The test case of the integration tests, and the oracle reliability cases are judged by.

The oracle: delivered bytes are an exact prefix of sent bytes (the peers compare
every byte as it comes), all of them where the end is orderly; the end is FIN or
RST as the script says; exactly one closing line a session, with the right
reason and the right counts; descriptors return to where they were within
`RETURN_WITHIN`; no socket of the forwarder is left in CLOSE_WAIT; nothing in the
log looks like an accident.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from twisted.trial import unittest

from portfwd.kernel.pipes import MAX_IDLE
from portfwd.testing.peers import Dialer, Peer, ScriptedListener, converse
from portfwd.values import Address, InetAddress, UnixAddress
from tests.integration.forwarder import TIMEOUT, AccessLine, Forwarder, wait_until
from tests.integration.programs import temporary_directory

#: Seconds in which descriptors are back where they started. The promise is two, on a machine that runs;
#: a virtual one can stand still for longer than that.
RETURN_WITHIN = 10.0
LOOPBACK = InetAddress("127.0.0.1", 0)
JSON_LOG = "log access=json file=access.log repeats=on\n"
#: Ends of pipes a process has for itself: its standard streams, and the reactor's.
OWN_PIPES = 4
#: Words that stand in no log of a forwarder that is well.
ACCIDENTS = ("Traceback", "Unhandled", "ResourceWarning", "was never awaited")


def deep() -> bool:
    """Whether the large versions of the cases were asked for."""
    return os.environ.get("PORTFWD_TESTS") == "deep"


def needs_deep() -> None:
    """Skip a test that takes long, unless it was asked for."""
    if not deep():
        raise unittest.SkipTest("needs PORTFWD_TESTS=deep")


class ForwarderCase(unittest.SynchronousTestCase):
    """A test with a running forwarder."""

    #: Which relay the cases run over: ``relay=``, or ``none`` for no forwarder at all.
    relay_option = "auto"

    #: A filter of `tests.filters.passing` beneath the rule; empty: none.
    passing = ""

    def setUp(self) -> None:
        """A directory of its own for every test."""
        self.directory: Path = temporary_directory(self)
        self._places = 0

    def forwarder(
        self,
        rules: str | None,
        arguments: Sequence[str] = (),
        *,
        twistd: Sequence[str] = (),
        program: Sequence[str] = (),
        descriptors: int | None = None,
        drain: str = "2",
        accidents: bool = False,
    ) -> Forwarder:
        """
        A forwarder that is ready, with a JSON access log unless `rules` has a ``log`` line.

        It is ended after the test, which fails if its log tells of an accident or its exit code is not 0.
        """
        if rules is not None and not any(line.startswith("log") for line in rules.splitlines()):
            rules = JSON_LOG + rules
        self._places += 1
        directory = self.directory / str(self._places)
        directory.mkdir()
        forwarder = Forwarder(
            directory,
            rules,
            ["--drain", drain, *arguments],
            twistd=[*twistd, "-n", "--pidfile="],
            program=program,
            descriptors=descriptors,
        )
        self.addCleanup(self._end, forwarder, accidents)
        forwarder.wait_until_ready()
        return forwarder

    def _end(self, forwarder: Forwarder, accidents: bool) -> None:
        try:
            code = forwarder.stop()
            self.assertEqual(code, 0, f"exit code of {forwarder}:\n{forwarder.log}")
            if not accidents:
                for word in ACCIDENTS:
                    self.assertNotIn(word, forwarder.log)
        finally:
            forwarder.clean_up()

    def listener(self, address: Address = LOOPBACK, **options: int | None) -> ScriptedListener:
        """An upstream that is closed after the test."""
        listener = ScriptedListener(address, **options)
        self.addCleanup(listener.close)
        return listener

    def options(self, *more: str) -> str:
        """The options of a rule, with the relay this class is about."""
        return " ".join([f"relay={self.relay_option}", *(option for option in more if option)])

    def assert_settled(self, forwarder: Forwarder, descriptors: int) -> None:
        """Descriptors are back, and no socket waits for a close that never comes."""
        wait_until(
            lambda: forwarder.open_descriptors() <= descriptors,
            RETURN_WITHIN,
            lambda: f"{forwarder.open_descriptors()} descriptors, {descriptors} before:\n{forwarder.log}",
        )
        self.assertEqual(forwarder.sockets_in_close_wait(), [])
        self.assertLessEqual(forwarder.open_pipes(), 2 * MAX_IDLE + OWN_PIPES)

    def assert_session(
        self, line: AccessLine, client: Peer, upstream: Peer | None, reason: str, orderly: bool
    ) -> None:
        """The closing line agrees with what both peers saw."""
        self.assertEqual(line.reason, reason, str(line.raw))
        sent, got = client.sent.count, 0 if upstream is None else upstream.received.count
        answered, answer = 0 if upstream is None else upstream.sent.count, client.received.count
        if orderly:
            self.assertEqual((got, answer), (sent, answered), "all bytes are delivered on an orderly end")
            if upstream is not None:
                self.assertEqual(upstream.received.sha256, client.sent.sha256)
                self.assertEqual(client.received.sha256, upstream.sent.sha256)
        self.assertTrue(got <= line.to_upstream <= sent, f"{got} <= {line.to_upstream} <= {sent}")
        self.assertTrue(answer <= line.to_client <= answered, f"{answer} <= {line.to_client} <= {answered}")

    def assert_relay(self, line: AccessLine) -> None:
        """The relay this class is about did the work, as its counters tell."""
        spliced = line.raw["to_upstream"]["spliced"] + line.raw["to_client"]["spliced"]
        if self.relay_option in ("pair", "copy"):
            moved = line.to_upstream + line.to_client
            self.assertEqual(line.relay, self.relay_option if moved else "")
        if self.relay_option in ("pair", "copy") or self.passing == "PassThrough":
            self.assertEqual(spliced, 0)
        elif line.to_upstream + line.to_client > 10_000_000:
            self.assertGreater(spliced, 0)

    def play(
        self,
        client: Sequence[str],
        upstream: Sequence[str],
        *,
        options: str = "",
        reason: str | tuple[str, ...] = "--",
        ended_first: str | None = None,
        orderly: bool | None = None,
        over: Address = LOOPBACK,
        step_deadline: float = TIMEOUT,
        client_buffers: int | None = None,
        upstream_buffers: int | None = None,
    ) -> tuple[Dialer, Peer]:
        """
        One conversation through a forwarder of its own, judged by the oracle.

        :param over: where both the forwarder and the upstream listen; unix names get a suffix.
        :param reason: the close reason, or those that are right.
        :param orderly: whether all bytes must arrive; None: if the reason is normal.
        """
        self._places += 1
        listener = self.listener(
            self.place(over, "up"), receive_buffer=upstream_buffers, send_buffer=upstream_buffers
        )
        server = listener.peer(*upstream)
        if self.relay_option == "none":
            dialer = Dialer(
                listener.address, *client, receive_buffer=client_buffers, send_buffer=client_buffers
            )
            converse(dialer, server, step_deadline=step_deadline)
            return dialer, server
        rule = f"case: {self.place(over, 'in')} -> {listener.address} {self.options(options)}\n"
        if self.passing:
            rule += f"    filter python:tests.filters.passing.{self.passing}\n"
        forwarder = self.forwarder(rule)
        descriptors = forwarder.open_descriptors()
        dialer = Dialer(
            forwarder.address("case"), *client, receive_buffer=client_buffers, send_buffer=client_buffers
        )
        converse(dialer, server, step_deadline=step_deadline)
        (line,) = forwarder.access_lines(1)
        allowed = (reason,) if isinstance(reason, str) else reason
        self.assertIn(line.reason, allowed, str(line.raw))
        if orderly is None:
            orderly = line.reason == "--"
        self.assert_session(line, dialer, server, line.reason, orderly)
        self.assert_relay(line)
        if ended_first is not None:
            self.assertEqual(line.ended_first, ended_first, str(line.raw))
        self.assert_settled(forwarder, descriptors)
        return dialer, server

    def place(self, over: Address, suffix: str) -> Address:
        """`over` itself, or a unix name in the test's directory."""
        if not isinstance(over, UnixAddress):
            return over
        if over.path.startswith("@"):
            return UnixAddress(f"@{self.directory.name}-{self._places}-{suffix}")
        return UnixAddress(str(self.directory / f"{self._places}-{suffix}"))
