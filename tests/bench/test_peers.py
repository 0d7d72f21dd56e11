"""Tests for the contestants: their configurations and counters."""

import json
from pathlib import Path
from unittest.mock import Mock, patch

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from bench.peers.api import AbsentError, Counters, Forward, Logs, Setup, said_by
from bench.peers.field import contestants, present
from bench.peers.haproxy import HAProxy, HAProxySplice, parse_info
from bench.peers.nginx import Nginx, NginxSmall
from bench.peers.passing import DoneAtOnce, SeesAll
from bench.peers.portfwd import (
    Portfwd,
    PortfwdDoneFilter,
    PortfwdOneFilter,
    PortfwdSplice,
    PortfwdThreeFilters,
    parse_closing_lines,
    parse_refusal,
)
from bench.peers.rinetd import Rinetd
from bench.peers.socat import Socat
from bench.peers.stock import Stock
from portfwd.filters import TO_CLIENT, TO_UPSTREAM, Factory
from portfwd.testing import Pipe

FORWARDS = (Forward("bulk", 20000, "10.77.2.2", 5201), Forward("ping", 20001, "10.77.2.2", 6379))
SETUP = Setup("10.77.1.1", FORWARDS, Path("/nowhere"))
FLOW = {"bytes": 100, "reads": 2, "writes": 3, "spliced": 40, "paused": 0.0}


class ConfigurationTests(SynchronousTestCase):
    """What contestants are told."""

    def test_haproxy(self) -> None:
        """One thread; splicing with large pipes or not at all; both ports; no log unless asked."""
        spliced, copied = HAProxySplice().configuration(SETUP), HAProxy().configuration(SETUP)
        for text in (spliced, copied):
            self.assertIn("nbthread 1\n", text)
            self.assertIn("bind 10.77.1.1:20001\n    server s 10.77.2.2:6379\n", text)
            self.assertNotIn("log stdout", text)
        self.assertIn("tune.pipesize 1048576\n", spliced)
        self.assertIn("option splice-request\n    option splice-response\n", spliced)
        self.assertNotIn("splice", copied)
        self.assertIn("option tcplog", HAProxy().configuration(evolve(SETUP, logs=Logs.ON)))
        self.assertIn("tune.bufsize 4096", HAProxy().configuration(evolve(SETUP, read_size=4096)))

    def test_nginx(self) -> None:
        """One worker, its buffer, and no log unless asked."""
        text = Nginx().configuration(SETUP, "load_module x;\n")
        self.assertTrue(text.startswith("load_module x;\ndaemon off;\nworker_processes 1;\n"))
        self.assertIn("proxy_buffer_size 65536;", text)
        self.assertIn("access_log off;", text)
        self.assertIn("proxy_buffer_size 16384;", NginxSmall().configuration(SETUP, ""))
        self.assertIn("access.log line;", Nginx().configuration(evolve(SETUP, logs=Logs.ON), ""))

    def test_datagrams(self) -> None:
        """Those who forward UDP do so on the same ports, when they are asked to."""
        both = evolve(SETUP, datagrams=True)
        for text, said in (
            (Nginx().configuration(both, ""), "listen 10.77.1.1:20001 udp; proxy_pass 10.77.2.2:6379;"),
            (Rinetd().configuration(both), "10.77.1.1 20001/udp 10.77.2.2 6379/udp\n"),
            (Socat().command(both)[-1], "UDP-LISTEN:20001,bind=10.77.1.1,fork,reuseaddr UDP:10.77.2.2:6379"),
            (Portfwd(Path("/nowhere")).rules(both), "10.77.1.1:20001/udp -> 10.77.2.2:6379/udp\n"),
        ):
            self.assertIn(said, text)
        takes = {peer.name for peer in contestants(Path("/nowhere")) if peer.takes_datagrams}
        self.assertEqual(takes, {"none", "portfwd-auto", "nginx-64k", "rinetd", "socat"})

    def test_rinetd(self) -> None:
        """Four words a rule."""
        self.assertEqual(
            Rinetd().configuration(SETUP), "10.77.1.1 20000 10.77.2.2 5201\n10.77.1.1 20001 10.77.2.2 6379\n"
        )
        self.assertIn("logfile", Rinetd().configuration(evolve(SETUP, logs=Logs.ON)))

    def test_socat_and_stock(self) -> None:
        """Their rules stand on the command line."""
        self.assertIn("TCP-LISTEN:20001,bind=10.77.1.1,fork", Socat().command(SETUP)[-1])
        self.assertEqual(Stock().command(SETUP)[3:7], ["10.77.1.1", "20000", "10.77.2.2", "5201"])
        self.assertIn("--log", Stock().command(evolve(SETUP, logs=Logs.ON)))

    def test_portfwd(self) -> None:
        """The kind of relay, what is read at once, and the log that the row wants."""
        folder = Path()
        self.assertEqual(
            Portfwd(folder).rules(SETUP).splitlines()[:2],
            ["log access=off", "bulk: 10.77.1.1:20000 -> 10.77.2.2:5201 relay=auto"],
        )
        sized = evolve(SETUP, read_size=4096, logs=Logs.COUNTERS)
        self.assertIn("relay=auto buffer=4096 bulk-buffer=4096\n", Portfwd(folder).rules(sized))
        self.assertIn("relay=splice pipe=4096\n", PortfwdSplice(folder).rules(sized))
        self.assertIn("log access=json file=/nowhere/access.json", Portfwd(folder).rules(sized))

    def test_portfwd_with_filters(self) -> None:
        """Each rule has its filters beneath it, and nothing else is different."""
        folder = Path()
        plain = Portfwd(folder).rules(SETUP).splitlines()
        for kind, clauses in (
            (PortfwdOneFilter, ["    filter python:bench.peers.passing.SeesAll"]),
            (PortfwdThreeFilters, ["    filter python:bench.peers.passing.SeesAll"] * 3),
            (PortfwdDoneFilter, ["    filter python:bench.peers.passing.DoneAtOnce"]),
        ):
            expected = [plain[0], plain[1], *clauses, plain[2], *clauses]
            self.assertEqual(kind(folder).rules(SETUP).splitlines(), expected)


class PassingTests(SynchronousTestCase):
    """The filters of the contestants."""

    def test_nothing_changes(self) -> None:
        """All that is sent arrives; one filter sees it all, the other only the first of each direction."""
        for kind, asked in ((SeesAll, 4), (DoneAtOnce, 2)):
            passing = kind()
            with patch.object(passing, "received", wraps=passing.received) as received:
                pipe = Pipe(Factory(Mock(return_value=passing)))
                for direction in (TO_UPSTREAM, TO_CLIENT):
                    pipe.send(direction, b"one")
                    pipe.send(direction, b"two")
            self.assertEqual((pipe.to_upstream, pipe.to_client), (b"onetwo", b"onetwo"))
            self.assertEqual(received.call_count, asked)


class CounterTests(SynchronousTestCase):
    """What contestants counted."""

    def test_closing_lines(self) -> None:
        """Both flows of every whole line are added; a line still being written is left alone."""
        line = json.dumps({"rule": "bulk", "to_upstream": FLOW, "to_client": FLOW})
        text = f"{line}\nnot json\n{line}\n{line}"
        self.assertEqual(parse_closing_lines(text), Counters(400, 20, 160))
        self.assertEqual(parse_closing_lines(""), Counters(0, 0, 0))

    def test_haproxy(self) -> None:
        """Its own spelling is understood; what it does not say is unknown."""
        said = parse_info("Name: HAProxy\nTotalBytesOut: 1253\nTotalSplicdedBytesOut: 1200\n")
        self.assertEqual(said, Counters(1253, None, 1200))
        self.assertEqual(parse_info("Name: HAProxy\n"), Counters())

    def test_refusal(self) -> None:
        """The first located error is quoted without its place; without any, the end of what was said."""
        text = "r.conf:1:2: error: this version cannot do UDP yet\n  udp: …\n1 rule, 1 error\n"
        self.assertEqual(parse_refusal(text), "this version cannot do UDP yet")
        self.assertEqual(parse_refusal("Traceback\nImportError: no\n"), "ImportError: no")
        self.assertIn("said nothing", parse_refusal(""))


class FieldTests(SynchronousTestCase):
    """Who takes part."""

    def test_names(self) -> None:
        """Names are unique."""
        names = [peer.name for peer in contestants(Path())]
        self.assertEqual(len(names), len(set(names)))

    def test_present(self) -> None:
        """One that says why it cannot take part is left out with that reason."""

        class Gone(Stock):
            name = "gone"

            def version(self) -> str:
                raise AbsentError("not here")

        versions, absent = present((Stock(), Gone()))
        self.assertEqual(list(versions), ["stock"])
        self.assertEqual(absent, {"gone": "not here"})

    def test_not_installed(self) -> None:
        """A program that is not there is absent, not a failure."""
        self.assertRaises(AbsentError, said_by, ["no-such-program-anywhere", "-v"])
