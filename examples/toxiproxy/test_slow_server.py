"""What a program does while its server is slow or away: run ``portfwd toxiproxy``, then ``pytest``."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

API = os.environ.get("TOXIPROXY", "http://localhost:8474")


def call(method: str, path: str, body: object = None) -> Any:
    """Ask the API; any client of toxiproxy's does the same."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(API + path, data, method=method), timeout=10) as answer:
        return json.loads(answer.read() or b"null")


class Hello(BaseHTTPRequestHandler):
    """The server that the program needs."""

    def do_GET(self) -> None:
        """Answer, and close."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")


def program(address: str, patience: float = 10.0) -> bytes:
    """The program under test: it asks a server, and has so many seconds for it."""
    with urlopen(f"http://{address}/", timeout=patience) as answer:
        data: bytes = answer.read()
    return data


@pytest.fixture
def server() -> Iterator[str]:
    """Where the server is, by way of a proxy called "hello"."""
    real = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    threading.Thread(target=real.serve_forever, daemon=True).start()
    proxy = {"name": "hello", "listen": "localhost:0", "upstream": f"127.0.0.1:{real.server_port}"}
    yield call("POST", "/proxies", proxy)["listen"]
    call("DELETE", "/proxies/hello")
    real.shutdown()
    real.server_close()


def test_well(server: str) -> None:
    """Without a toxic the proxy changes nothing."""
    assert program(server) == b"hello"


def test_slow(server: str) -> None:
    """A server that takes a minute is given up; it is well again when the toxic is gone."""
    call("POST", "/proxies/hello/toxics", {"type": "latency", "attributes": {"latency": 60_000}})
    with pytest.raises(TimeoutError):
        program(server, patience=0.5)
    call("DELETE", "/proxies/hello/toxics/latency_downstream")
    assert program(server) == b"hello"


def test_reset(server: str) -> None:
    """A server that resets connections is an error, and no empty answer."""
    call("POST", "/proxies/hello/toxics", {"type": "reset_peer", "attributes": {"timeout": 0}})
    with pytest.raises(OSError, match="reset"):
        program(server)


def test_away(server: str) -> None:
    """A server that is down refuses; it is well again when it is back."""
    call("PATCH", "/proxies/hello", {"enabled": False})
    with pytest.raises(URLError, match="refused"):
        program(server)
    call("PATCH", "/proxies/hello", {"enabled": True})
    assert program(server) == b"hello"
