"""
toxiproxy's API under its clients: the examples of the how-to, toxiproxy-python, and the one for Node.

The tests of toxiproxy-node-client itself run in the deep profile, from a checkout with its packages::

    git clone https://github.com/ihsw/toxiproxy-node-client ~/toxiproxy-node-client
    cd ~/toxiproxy-node-client && npm ci
    PORTFWD_TESTS=deep PORTFWD_TOXIPROXY_NODE=~/toxiproxy-node-client trial tests.integration.test_toxiproxy
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from portfwd.testing.peers import Dialer, converse
from portfwd.values import InetAddress
from tests.integration.case import ForwarderCase, deep
from tests.integration.forwarder import TIMEOUT, Forwarder, is_listening

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "toxiproxy"
#: Where toxiproxy-node-client's own tests expect the API.
NODE_PORT = 8474


class ToxiproxyCase(ForwarderCase):
    """A forwarder with the API."""

    def served(self, address: str = "127.0.0.1:0", rest: str = "") -> Forwarder:
        """It, and `api`."""
        forwarder = self.forwarder(f"toxiproxy {address}\n{rest}")
        self.api = forwarder.wait_for_line(r"toxiproxy: listening on (\S+)")[1]
        return forwarder

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Ask the API."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.api + path, data, method=method)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return json.loads(answer.read() or b"null")

    def run_tests(self, *command: str, **more: Any) -> None:
        """A program that tests something, which must be content."""
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=4 * TIMEOUT,
            env={**os.environ, "TOXIPROXY": self.api, "PYTHONDONTWRITEBYTECODE": "1"},
            **more,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class ExampleTests(ToxiproxyCase):
    """The examples of the how-to."""

    def test_python(self) -> None:
        """The one for pytest."""
        if importlib.util.find_spec("pytest") is None:
            raise SkipTest("pytest is not installed here")
        self.served()
        self.run_tests(
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            str(EXAMPLES / "test_slow_server.py"),
        )
        self.assertEqual(self.call("GET", "/proxies"), {})

    def test_node(self) -> None:
        """The one for Node, from version 20 on."""
        node = shutil.which("node")
        if node is None:
            raise SkipTest("Node is not installed here")
        version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout
        if int(version.lstrip("v").partition(".")[0]) < 20:
            raise SkipTest(f"the example is for Node 20, not {version.strip()}")
        self.served()
        self.run_tests(node, "--test", str(EXAMPLES / "slow-server.test.mjs"))
        self.assertEqual(self.call("GET", "/proxies"), {})


class ClientTests(ToxiproxyCase):
    """Clients of toxiproxy's."""

    def test_python_client(self) -> None:
        """toxiproxy-python makes proxies, gives them toxics, takes one down and resets all."""
        try:
            from toxiproxy import Toxiproxy
            from toxiproxy.api import APIConsumer
            from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists
        except ImportError:
            raise SkipTest("toxiproxy-python is not installed here") from None
        self.served()
        client = Toxiproxy()
        host, _, port = self.api.removeprefix("http://").rpartition(":")
        client.update_api_consumer(host, int(port))
        self.assertTrue(client.running())
        upstream = self.listener()
        target = f"127.0.0.1:{upstream.address.port}"  # type: ignore[union-attr]
        proxy = client.create(upstream=target, name="db", listen="127.0.0.1:0")
        self.assertRaises(ProxyExists, APIConsumer.post, "/proxies", json={"name": "db", "upstream": target})
        proxy.add_toxic(type="latency", attributes={"latency": 5, "jitter": 1}, toxicity=0.5)
        toxic = proxy.get_toxic("latency_downstream")
        self.assertEqual((toxic.toxicity, toxic.attributes), (0.5, {"latency": 5, "jitter": 1}))
        self.assertRaises(InvalidToxic, proxy.add_toxic, type="noise")
        self.assertRaises(NotFound, proxy.destroy_toxic, "other")
        with proxy.down():
            self.assertFalse(client.get_proxy("db").enabled)
            self.assertFalse(is_listening(int(proxy.listen.rpartition(":")[2])))
        self.assertTrue(client.get_proxy("db").enabled)
        self.assertTrue(client.reset())
        self.assertEqual(proxy.toxics(), {})
        client.populate([{"name": "two", "upstream": target, "listen": "127.0.0.1:0"}])
        self.assertEqual(sorted(client.proxies()), ["db", "two"])
        client.destroy_all()
        self.assertEqual(client.proxies(), {})

    def test_node_client(self) -> None:
        """toxiproxy-node-client passes its own tests."""
        where = os.environ.get("PORTFWD_TOXIPROXY_NODE")
        if not deep() or where is None:
            raise SkipTest("only with PORTFWD_TESTS=deep and PORTFWD_TOXIPROXY_NODE")
        if is_listening(NODE_PORT):
            raise SkipTest(f"somebody listens on port {NODE_PORT} already")
        self.served(f"localhost:{NODE_PORT}")
        self.run_tests("npx", "jest", "--runInBand", cwd=os.path.expanduser(where))


class TrafficTests(ToxiproxyCase):
    """Proxies under traffic."""

    def proxy(self, **said: Any) -> InetAddress:
        """A proxy in front of `upstream`."""
        self.upstream = self.listener()
        target = f"127.0.0.1:{self.upstream.address.port}"  # type: ignore[union-attr]
        made = self.call(
            "POST", "/proxies", {"name": "db", "listen": "localhost:0", "upstream": target, **said}
        )
        host, _, port = made["listen"].rpartition(":")
        return InetAddress(host, int(port))

    def test_bytes(self) -> None:
        """Megabytes are what they were, without toxics and with some; the closing line is a rule's."""
        forwarder = self.served()
        address = self.proxy()
        for number, toxics in enumerate(
            (
                (),
                ({"type": "latency", "attributes": {"latency": 20, "jitter": 10}},),
                ({"type": "bandwidth", "stream": "upstream", "attributes": {"rate": 5000}},),
                ({"type": "slicer", "attributes": {"average_size": 1000, "size_variation": 500}},),
            ),
            1,
        ):
            for toxic in toxics:
                self.call("POST", "/proxies/db/toxics", toxic)
            client = Dialer(address, "send 1000000", "end", "read to end")
            server = self.upstream.peer("read to end", "send 1000000", "end")
            converse(client, server)
            self.assertEqual((client.received.count, server.received.count), (1_000_000, 1_000_000))
            self.assertEqual(len(forwarder.access_lines(number)), number)
        lines = forwarder.access_lines(4)
        self.assertEqual({(line.rule, line.reason) for line in lines}, {("db", "--")})

    def test_latency_is_felt(self) -> None:
        """An answer takes as long as the toxic says, and the end of the toxic is felt at once."""
        self.served()
        address = self.proxy(toxics=[{"type": "latency", "attributes": {"latency": 300}}])

        def ask() -> float:
            begun = time.monotonic()
            client = Dialer(address, "send 1", "end", "read to end")
            converse(client, self.upstream.peer("read to end", "send 1", "end"))
            return time.monotonic() - begun

        self.assertGreaterEqual(ask(), 0.3)
        self.call("DELETE", "/proxies/db/toxics/latency_downstream")
        self.assertGreaterEqual(ask(), 0.0)

    def test_reload(self) -> None:
        """A proxy stays when the file is reloaded, and is one of the forwarder's rules."""
        forwarder = self.served()
        address = self.proxy()
        rules = forwarder.directory / "rules.conf"
        rules.write_text(rules.read_text() + "web: 127.0.0.1:0 -> 127.0.0.1:9\n")
        forwarder.signal(signal.SIGHUP)
        forwarder.wait_for_line("web: listening on")
        self.assertEqual(self.call("GET", "/proxies/db")["listen"], str(address))
        client = Dialer(address, "send 5", "end", "read to end")
        converse(client, self.upstream.peer("read to end", "end"))
        self.assertEqual(forwarder.access_lines(1)[0].rule, "db")
