"""The way to the upstream: refused, unanswered, by name, from an address, to the next target."""

from __future__ import annotations

import socket
import ssl
import time

import trustme
from twisted.trial import unittest

from portfwd.kernel.sockets import reset_on_close
from portfwd.testing.peers import Dialer, ScriptedListener, converse
from portfwd.values import InetAddress
from tests.integration.case import ForwarderCase
from tests.integration.forwarder import TIMEOUT, Forwarder
from tests.integration.tls_client import TLSConversation
from tests.service.pems import write_pair


def read_to_reset(listener: ScriptedListener) -> int:
    """Accept a connection and read until it is reset: the number of bytes."""
    accepted = listener.accept(TIMEOUT)
    assert accepted is not None
    with accepted:
        accepted.settimeout(TIMEOUT)
        count = 0
        try:
            while data := accepted.recv(65536):
                count += len(data)
        except ConnectionResetError:
            return count
    raise AssertionError(f"an end after {count} bytes")


ECHO = (["send 1000", "end", "expect 10", "expect end"], ["expect 1000", "expect end", "send 10", "end"])


class DialTests(ForwarderCase):
    """Between accept and the first byte."""

    def refused_address(self) -> str:
        """An address that refuses: bound by us, but nobody listens."""
        return str(self.listener(backlog=None).address)

    def black_hole(self) -> str:
        """An address that does not answer."""
        listener = self.listener(backlog=0)
        for filler in listener.fill_queue():
            self.addCleanup(filler.close)
        return str(listener.address)

    def fails(self, targets: str, reason: str, options: str = "") -> Forwarder:
        """No target can be reached: the client sees a reset, the line says why."""
        forwarder = self.forwarder(f"case: 127.0.0.1:0 -> {targets} {options}\n")
        descriptors = forwarder.open_descriptors()
        client = Dialer(forwarder.address("case"), "expect reset")
        converse(client)
        (line,) = forwarder.access_lines(1)
        self.assert_session(line, client, None, reason, orderly=False)
        self.assert_settled(forwarder, descriptors)
        return forwarder

    def reaches(
        self, targets: str, listener: ScriptedListener, options: str = "", family: str = "127.0.0.1"
    ) -> Forwarder:
        """The conversation comes out with the peer at `listener`."""
        forwarder = self.forwarder(f"case: {family}:0 -> {targets} {options}\n")
        descriptors = forwarder.open_descriptors()
        client, upstream = Dialer(forwarder.address("case"), *ECHO[0]), listener.peer(*ECHO[1])
        converse(client, upstream)
        (line,) = forwarder.access_lines(1)
        self.assert_session(line, client, upstream, "--", orderly=True)
        self.assertEqual(line.upstream, str(listener.address))
        self.assert_settled(forwarder, descriptors)
        return forwarder

    def test_refused(self) -> None:
        """Nobody listens: SC."""
        self.fails(self.refused_address(), "SC")

    def test_all_refused(self) -> None:
        """Nobody listens anywhere: SC, once."""
        self.fails(f"{self.refused_address()}, {self.refused_address()}", "SC")

    def test_unix_socket_that_is_not_there(self) -> None:
        """A path nobody serves is a refusal too."""
        self.fails(f"unix:{self.directory}/nobody", "SC")

    def test_black_hole(self) -> None:
        """No answer: sC, after ``connect-timeout``."""
        before = time.monotonic()
        forwarder = self.fails(self.black_hole(), "sC", "connect-timeout=1s")
        self.assertGreaterEqual(time.monotonic() - before, 0.9)
        duration = forwarder.access_lines(1)[0].raw["duration"]
        self.assertTrue(0.9 <= duration <= 1.5, duration)

    def test_all_attempts_together(self) -> None:
        """``dial-timeout`` bounds them all."""
        holes = ", ".join(self.black_hole() for _ in range(3))
        forwarder = self.fails(holes, "sC", "connect-timeout=700ms dial-timeout=1s")
        duration = forwarder.access_lines(1)[0].raw["duration"]
        self.assertTrue(0.9 <= duration <= 1.6, duration)

    def test_unknown_name(self) -> None:
        """A name without an address: DC. RFC 6761 section 6.4: ``invalid`` never has one."""
        self.fails("nobody.invalid:80", "DC", "dial-timeout=10s")

    def test_next_target(self) -> None:
        """What refuses and what does not answer is passed over, in the order of the file."""
        listener = self.listener()
        self.reaches(
            f"{self.refused_address()}, {self.black_hole()}, {listener.address}",
            listener,
            "connect-timeout=500ms",
        )

    def test_first_target_first(self) -> None:
        """The second target is not bothered while the first one answers."""
        first, second = self.listener(), self.listener()
        self.reaches(f"{first.address}, {second.address}", first)
        self.assertIsNone(second.accept(0.1))

    def test_name_with_both_families(self) -> None:
        """``localhost`` is reached on whichever of its addresses somebody listens."""
        found = {str(entry[4][0]) for entry in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}
        if not {"127.0.0.1", "::1"} <= found:
            raise unittest.SkipTest("localhost has one family here")
        for host in ("127.0.0.1", "::1"):
            listener = self.listener(InetAddress(host, 0))
            port = listener.address.port
            other = "::1" if host == "127.0.0.1" else "127.0.0.1"
            try:
                # Nobody else's port: were it free there by chance only, another process might take it.
                self.listener(InetAddress(other, port), backlog=None)
            except OSError:
                raise unittest.SkipTest("needs a port that is free in both families") from None
            self.reaches(f"localhost:{port}", listener)

    def test_source_address(self) -> None:
        """``src=`` is where the upstream sees us."""
        listener = self.listener()
        forwarder = self.forwarder(f"case: 127.0.0.1:0 -> {listener.address} src=127.0.0.2\n")
        upstream = listener.peer(*ECHO[1])
        converse(Dialer(forwarder.address("case"), *ECHO[0]), upstream)
        self.assertEqual(upstream.remote and str(upstream.remote).rpartition(":")[0], "127.0.0.2")

    def test_client_that_resets_without_a_byte(self) -> None:
        """The dial is given up before the upstream answers; nothing of it stays."""
        forwarder = self.forwarder(f"case: 127.0.0.1:0 -> {self.black_hole()} connect-timeout=10s\n")
        descriptors = forwarder.open_descriptors()
        converse(Dialer(forwarder.address("case"), "reset"))
        (line,) = forwarder.access_lines(1)
        self.assertEqual(line.reason, "CC")
        self.assert_settled(forwarder, descriptors)

    def test_client_that_resets_before_a_dial_that_fails(self) -> None:
        """Its bytes are kept for as long as a target may take them; the line says why none did."""
        forwarder = self.forwarder(f"case: 127.0.0.1:0 -> {self.black_hole()} connect-timeout=1s\n")
        descriptors = forwarder.open_descriptors()
        converse(Dialer(forwarder.address("case"), "send 10", "reset"))
        (line,) = forwarder.access_lines(1)
        self.assertEqual(line.reason, "sC")
        self.assert_settled(forwarder, descriptors)

    def test_client_that_resets_at_once(self) -> None:
        """The upstream gets the bytes before the reset, as on a direct connection, and then a reset."""
        upstream = self.listener()
        forwarder = self.forwarder(f"case: 127.0.0.1:0 -> {upstream.address}\n")
        for _ in range(20):
            converse(Dialer(forwarder.address("case"), "send 32KiB", "reset"))
            self.assertEqual(read_to_reset(upstream), 32768)
        self.assertEqual({line.reason for line in forwarder.access_lines(20)}, {"CD"})

    def test_bytes_before_a_reset_during_the_dial(self) -> None:
        """The upstream answers only after each client was reset: on every relay, with TLS and filters."""
        listener = self.listener(backlog=0)
        fillers = listener.fill_queue()
        authority = trustme.CA()
        cert, key = write_pair(self.directory, "a", authority.issue_cert("localhost"))
        passing = "\n    filter python:tests.filters.passing."
        rules = [
            f"{relay}: {{}} -> {listener.address} relay={relay}"
            for relay in ("auto", "copy", "splice", "pair")
        ]
        rules = [rule.format("127.0.0.1:0") for rule in rules] + [
            f"paced: 127.0.0.1:0 -> {listener.address} bandwidth=100MiB",
            f"tls: tls:127.0.0.1:0 cert={cert} key={key} -> {listener.address}",
            f"shown: 127.0.0.1:0 -> {listener.address}{passing}PassThrough",
            f"done: 127.0.0.1:0 -> {listener.address}{passing}DoneAtOnce",
            f"shown-pair: 127.0.0.1:0 -> {listener.address} relay=pair{passing}PassThrough",
            f"shown-tls: tls:127.0.0.1:0 cert={cert} key={key} -> {listener.address}{passing}PassThrough",
        ]
        forwarder = self.forwarder("\n".join(rules) + "\n")
        sent = {}
        for number, rule in enumerate(rules):
            name = rule.partition(":")[0]
            sent[name] = 20_000 + number
            address = forwarder.address(name)
            assert isinstance(address, InetAddress)
            client = socket.create_connection((address.host, address.port))
            with client:
                if "tls" in name:
                    context = ssl.create_default_context()
                    authority.configure_trust(context)
                    conversation = TLSConversation(client, context, "localhost")
                    conversation.shake()
                    conversation.step()  # tickets: the other side has completed the handshake
                    conversation.say(bytes(sent[name]))
                else:
                    client.sendall(bytes(sent[name]))
                reset_on_close(client)
        listener.listen()  # now there is room for all
        for filler in fillers:
            accepted = listener.accept(TIMEOUT)
            filler.close()
            if accepted is not None:
                accepted.close()
        got = sorted(read_to_reset(listener) for _ in rules)
        self.assertEqual(got, sorted(sent.values()))
        lines = forwarder.access_lines(len(rules))
        self.assertEqual({line.raw["rule"]: line.reason for line in lines}, dict.fromkeys(sent, "CD"))
        self.assertEqual({line.raw["rule"]: line.to_upstream for line in lines}, sent)

    def test_families_cross(self) -> None:
        """An IPv6 listener leads to an IPv4 target and back to front."""
        four, six = self.listener(), self.listener(InetAddress("::1", 0))
        self.reaches(str(four.address), four, family="[::1]")
        self.reaches(str(six.address), six)
