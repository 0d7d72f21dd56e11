"""The fixtures for pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import socket
from portfwd.filters import TO_UPSTREAM, Filter

class Loud(Filter):
    def received(self, direction, data):
        return data.upper()

class Bad(Filter):
    def closed(self, summary):
        raise KeyError("no")

def test_pipe(portfwd_pipe):
    pipe = portfwd_pipe(Loud)
    pipe.send(TO_UPSTREAM, b"hello")
    assert pipe.to_upstream == b"HELLO"

def test_bad(portfwd_pipe):
    portfwd_pipe(Bad)

def test_forwarder(portfwd_forwarder):
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        forwarder = portfwd_forwarder(f"web: 127.0.0.1:0 -> 127.0.0.1:{upstream.getsockname()[1]}")
        with forwarder.connect("web") as client, upstream.accept()[0] as server:
            client.sendall(b"hello")
            assert server.recv(5) == b"hello"
"""


class PluginTests(SynchronousTestCase):
    """A run of pytest that has the plug-in."""

    def test_fixtures(self) -> None:
        """Tests use a `Pipe` and a running forwarder; a filter that raises at the close is an error."""
        if find_spec("pytest") is None:
            raise SkipTest("pytest comes with the extra 'lint'")
        place = Path(self.mktemp())
        place.mkdir()
        (place / "test_it.py").write_text(TESTS)
        plugin = ["-p", "portfwd.testing.pytest_plugin"]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, "test_it.py"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, env=environment, check=False
        )
        self.assertIn("3 passed, 1 error", done.stdout, done.stderr)
        self.assertIn("KeyError", done.stdout)
