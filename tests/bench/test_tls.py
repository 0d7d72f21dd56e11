"""Tests for the contestants and the rows of TLS."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import MagicMock, Mock, patch

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from bench.loads.api import GIB, SMOKE
from bench.loads.tls import Fetches, Handshakes, Kept, parse_sizes, rows
from bench.peers.api import AbsentError, Forward, Setup
from bench.peers.stock import Stock
from bench.peers.tls import (
    IN,
    OUT,
    HAProxyTLSIn,
    HAProxyTLSOut,
    NginxTLSIn,
    NginxTLSOut,
    PortfwdTLSIn,
    PortfwdTLSOut,
    make_certificate,
)
from bench.processes import LabError, Memory
from portfwd.rules import parse, unsupported
from portfwd.service.tls.problems import tls_problems


class PeerTests(SynchronousTestCase):
    """What contestants are told."""

    def setUp(self) -> None:
        """A folder."""
        if shutil.which("openssl") is None:
            raise SkipTest("needs openssl")
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.setup = Setup("10.77.1.1", (Forward("web", 20002, "10.77.2.2", 8080),), self.folder)

    def test_certificate(self) -> None:
        """A pair is made once; the file with both has both."""
        cert, key = make_certificate(self.folder)
        before = Path(cert).read_bytes()
        self.assertEqual(make_certificate(self.folder), (cert, key))
        self.assertEqual(before + Path(key).read_bytes(), (self.folder / "both.pem").read_bytes())

    def test_portfwd(self) -> None:
        """Rules that portfwd takes, with TLS at the one end or the other."""
        for peer, text in (
            (PortfwdTLSIn(self.folder), "web: tls:10.77.1.1:20002 cert="),
            (PortfwdTLSOut(self.folder), "-> tls:10.77.2.2:8080 verify=off"),
        ):
            rules = peer.rules(self.setup)
            self.assertIn(text, rules)
            ruleset = parse(rules, "f")
            self.assertEqual([*unsupported(ruleset), *tls_problems(ruleset)], [])

    def test_others(self) -> None:
        """nginx and HAProxy do the same."""
        for text, wanted in (
            (NginxTLSIn().configuration(self.setup, ""), "listen 10.77.1.1:20002 backlog=4096 ssl;"),
            (NginxTLSIn().configuration(self.setup, ""), "ssl_certificate_key"),
            (NginxTLSOut().configuration(self.setup, ""), "proxy_ssl on;"),
            (HAProxyTLSIn().configuration(self.setup), "bind 10.77.1.1:20002 ssl crt"),
            (HAProxyTLSOut().configuration(self.setup), "server s 10.77.2.2:8080 ssl verify none"),
        ):
            self.assertIn(wanted, text)


class LoadTests(SynchronousTestCase):
    """The rows."""

    def test_sizes(self) -> None:
        """What every curl got is added up; one that got nothing fails the sample."""
        self.assertEqual(parse_sizes("5\n" * 8), 40)
        for text in ("5\n" * 7, "5\n" * 7 + "0\n", "curl: no\n"):
            self.assertRaises(LabError, parse_sizes, text)

    def test_who_takes_part(self) -> None:
        """Only those that are made for the row."""
        for row in rows():
            taking = [row.takes(peer) for peer in (PortfwdTLSIn(Path()), PortfwdTLSOut(Path()), Stock())]
            self.assertEqual(taking, [row.group == IN, row.group == OUT, False])

    def test_figures(self) -> None:
        """A sample says bits and connections a second, and what they cost."""
        running = Mock(reach=lambda _: ("10.77.1.1", 20002), cpu=Mock(side_effect=[1.0, 2.0] * 2))
        running.lab.run.return_value = f"{GIB // 8}\n" * 8
        figures = Fetches("a", IN, "A").measure(running, SMOKE)
        self.assertEqual((figures["cpu_s_gib"], figures["gbit_s"]), (1.0, GIB * 8 / 1e9))
        self.assertIn("https://10.77.1.1:20002/file", running.lab.run.call_args[0][1][-1])
        running.lab.run.return_value = (
            "Complete requests:      200\nFailed requests:        0\nRequests per second:    500.00 [#/sec]\n"
        )
        figures = Handshakes("b", OUT, "B").measure(running, SMOKE)
        self.assertEqual((figures["connections_s"], figures["cpu_us"]), (500.0, 5000.0))
        self.assertEqual(running.lab.run.call_args[0][1][-1], "http://10.77.1.1:20002/")

    def test_kept(self) -> None:
        """Memory is what the forwarder has more of with the connections that have moved bulk."""
        running = Mock(reach=lambda _: ("10.77.1.1", 20002))
        running.memory.side_effect = [Memory(0, 0, 0), Memory(200 * 50 * 1024, 0, 0)]
        client = MagicMock()
        client.__enter__.return_value.ask.side_effect = ["open 1 0", "open 200 0"]
        running.lab.program.return_value = client
        figures = Kept("kept", IN, "K").measure(running, SMOKE)
        self.assertEqual(figures["kib_each"], 50.0)

    def test_skipped(self) -> None:
        """Without openssl there is no certificate, and no row."""
        with patch("bench.loads.tls.make_certificate", side_effect=AbsentError("openssl is not installed")):
            self.assertEqual(rows()[0].skipped(Path()), "openssl is not installed")
