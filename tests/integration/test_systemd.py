"""Sockets that somebody else opened, handed over as systemd does it (``sd_listen_fds(3)``)."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack

from portfwd.testing.peers import Dialer, ScriptedListener, converse
from portfwd.values import InetAddress, UnixAddress
from tests.integration.case import JSON_LOG, LOOPBACK, TIMEOUT, ForwarderCase
from tests.integration.forwarder import Forwarder

CONVERSATION = ("send 100KiB", "end", "expect 10KiB", "expect end")
ANSWER = ("expect 100KiB", "expect end", "send 10KiB", "end")


class ActivationTests(ForwarderCase):
    """TCP, UDP and unix sockets, by name."""

    def activated(self, rules: str, sockets: dict[str, socket.socket]) -> Forwarder:
        """A forwarder that inherits `sockets`."""
        numbers = [sock.fileno() for sock in sockets.values()]
        # From 3 on, as systemd has it; by way of high numbers, or one could overwrite the next.
        moves = [f"exec {20 + index}<&{number}" for index, number in enumerate(numbers)]
        moves += [f"exec {3 + index}<&{20 + index} {20 + index}<&-" for index in range(len(numbers))]
        names = ":".join(sockets)
        script = "; ".join(
            [*moves, f'LISTEN_PID=$$ LISTEN_FDS={len(numbers)} LISTEN_FDNAMES={names} exec "$@"']
        )
        forwarder = Forwarder(
            self.directory, JSON_LOG + rules, launcher=["bash", "-c", script, "bash"], pass_fds=numbers
        )
        self.addCleanup(forwarder.clean_up)
        return forwarder

    def test_tcp_and_unix(self) -> None:
        """Both kinds of socket serve sessions; the file of a unix socket stays when portfwd goes."""
        with ScriptedListener(LOOPBACK) as upstream:
            tcp = socket.create_server(("127.0.0.1", 0))
            self.addCleanup(tcp.close)
            path = str(self.directory / "inherited.sock")
            unix = socket.socket(socket.AF_UNIX)
            self.addCleanup(unix.close)
            unix.bind(path)
            unix.listen()
            target = upstream.address
            forwarder = self.activated(
                f"a: systemd:web -> {target}\nb: systemd:local -> {target}\n", {"web": tcp, "local": unix}
            )
            forwarder.wait_until_ready()
            for address in (InetAddress(*tcp.getsockname()), UnixAddress(path)):
                converse(
                    Dialer(address, *CONVERSATION, name="client"), upstream.peer(*ANSWER, name="upstream")
                )
            lines = forwarder.access_lines(2)
            self.assertEqual(
                [(line.rule, line.reason, line.to_upstream) for line in lines],
                [("a", "--", 102400), ("b", "--", 102400)],
            )
            self.assertEqual(forwarder.stop(), 0)
            self.assertTrue(os.path.exists(path))

    def test_datagrams(self) -> None:
        """
        UDP and unix datagram sockets serve associations, and answer from where the client sent to.

        The file of a unix socket stays when portfwd goes.
        """
        with ExitStack() as stack:
            kinds = (socket.AF_INET, socket.SOCK_DGRAM)
            upstream, udp, client = (stack.enter_context(socket.socket(*kinds)) for _ in range(3))
            local, peer = (
                stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) for _ in range(2)
            )
            upstream.bind(("127.0.0.1", 0))
            udp.bind(("0.0.0.0", 0))
            path, own = str(self.directory / "inherited.sock"), str(self.directory / "client.sock")
            local.bind(path)
            peer.bind(own)
            target = f"127.0.0.1:{upstream.getsockname()[1]}/udp"
            forwarder = self.activated(
                f"a: systemd-dgram:dns -> {target}\nb: systemd-dgram:log -> {target}\n",
                {"dns": udp, "log": local},
            )
            forwarder.wait_until_ready()
            for sock in (upstream, client, peer):
                sock.settimeout(TIMEOUT)
            for asking, where in ((client, ("127.0.0.2", udp.getsockname()[1])), (peer, path)):
                asking.sendto(b"question", where)
                question, asker = upstream.recvfrom(100)
                self.assertEqual(question, b"question")
                upstream.sendto(b"answer", asker)
                self.assertEqual(asking.recvfrom(100), (b"answer", where))
            self.assertEqual(forwarder.stop(), 0)
            self.assertTrue(os.path.exists(path))

    def test_wrong_kind(self) -> None:
        """A stream socket is not taken for datagrams; the line says what to write."""
        tcp = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(tcp.close)
        forwarder = self.activated("a: systemd-dgram:web -> 127.0.0.1:9/udp\n", {"web": tcp})
        forwarder.wait_for_line("takes no datagrams: write systemd:NAME for ListenStream=")
        self.assertEqual(forwarder.wait(), 1)

    def test_no_socket_of_that_name(self) -> None:
        """A name that systemd did not pass is one line, and exit status 1."""
        tcp = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(tcp.close)
        forwarder = self.activated("a: systemd:other -> 127.0.0.1:9\n", {"web": tcp})
        forwarder.wait_for_line("a: cannot listen on systemd:other: systemd passed no socket of that name")
        self.assertEqual(forwarder.wait(), 1)
