# -*- test-case-name: tests.integration.test_web_page -*-
"""
Makes the pictures of the web page: ``python -m docs.screenshots``.

It starts a forwarder with rules, targets, faults and traffic on the loopback, opens the page in Chromium by
Selenium, and writes pictures in light, dark and at a phone's width into ``docs/how-to/pictures/``. It needs
the extra ``browser``, and Debian's packages ``chromium`` and ``chromium-driver``.
"""

from __future__ import annotations

import random
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
PICTURES: Final = ROOT / "docs" / "how-to" / "pictures"
PROGRAM: Final = "import sys; from portfwd.cli.main import main; sys.exit(main())"
#: Chromium asks nobody but the page, and shows nothing.
ARGUMENTS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--no-proxy-server",
)
RULES: Final = """\
web 127.0.0.1:{web} level=operator token-file=token
web 127.0.0.1:{look}
shop:     127.0.0.1:{shop} -> 127.0.0.1:{one}, 127.0.0.1:{two}  balance=roundrobin
    check tcp inter=1s
database: 127.0.0.1:{database} -> 127.0.0.1:{three}, 127.0.0.1:{gone}
    check tcp inter=1s
mail:     127.0.0.1:{mail} -> 127.0.0.1:{one}
names:    127.0.0.1:{names} -> 127.0.0.1:{two}
lab:      127.0.0.1:{lab} -> 127.0.0.1:{three}
    filter faults latency delay=150ms jitter=20ms
    filter faults bandwidth rate=64KiB/s active=off
"""
#: The token of the forwarder in the pictures.
TOKEN: Final = "a-token-for-the-pictures"  # noqa: S105


@contextmanager
def chromium(directory: Path, width: int, height: int, *, dark: bool = False) -> Iterator[Any]:
    """A Chromium that keeps its files in `directory` and notes what its console says."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={directory}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.binary_location = shutil.which("chromium") or ""
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        scheme = "dark" if dark else "light"
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        metrics = {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1 + (width < 600),
            "mobile": width < 600,
        }
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        yield driver
    finally:
        driver.quit()


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            while data := self.request.recv(65536):
                self.request.sendall(data)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024


def _free_ports(names: str) -> dict[str, int]:
    with ExitStack() as held:
        socks = {name: held.enter_context(socket.create_server(("127.0.0.1", 0))) for name in names.split()}
        return {name: sock.getsockname()[1] for name, sock in socks.items()}


def _traffic(ports: dict[str, int], chance: random.Random, ended: threading.Event) -> None:
    """Clients that come, send at their own pace and go."""
    clients: list[tuple[socket.socket, int]] = []
    while not ended.wait(0.02):
        if len(clients) < 140 and chance.random() < 0.5:
            name = chance.choices(("shop", "database", "mail", "names", "lab"), (6, 4, 2, 2, 1))[0]
            source = f"127.{chance.randrange(1, 200)}.{chance.randrange(256)}.{chance.randrange(1, 255)}"
            client = socket.create_connection(("127.0.0.1", ports[name]), 5, (source, 0))
            client.setblocking(False)
            clients.append((client, 2 ** chance.randrange(6, 15)))
        for client, size in chance.sample(clients, min(len(clients), 25)):
            with suppress(BlockingIOError):
                client.send(b"x" * size)
            with suppress(BlockingIOError):
                client.recv(1 << 20)
        if len(clients) > 90 and chance.random() < 0.15:
            clients.pop(chance.randrange(len(clients)))[0].close()
    for client, _ in clients:
        client.close()


@contextmanager
def shown(directory: Path) -> Iterator[dict[str, int]]:
    """A forwarder with traffic; the ports of its page are ``web`` and ``look``."""
    ports = _free_ports("web look shop database mail names lab gone")
    with ExitStack() as stack:
        for name in ("one", "two", "three"):
            server = stack.enter_context(_Server(("127.0.0.1", 0), _Echo))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            ports[name] = server.server_address[1]
        (directory / "token").write_text(TOKEN)
        (directory / "token").chmod(0o600)
        (directory / "rules.conf").write_text(RULES.format(**ports))
        command = [sys.executable, "-c", PROGRAM, "run", "-c", "rules.conf"]
        log = stack.enter_context(open(directory / "log", "wb"))
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)  # noqa: S603
        stack.callback(process.wait)
        stack.callback(process.terminate)
        _wait_for(ports["web"])
        ended = threading.Event()
        clients = threading.Thread(target=_traffic, args=(ports, random.Random(7), ended))  # noqa: S311
        clients.start()
        stack.callback(clients.join)
        stack.callback(ended.set)
        yield ports


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the forwarder does not start")


def sign_in(driver: Any, port: int) -> None:
    """Open the page of a listener that asks for `TOKEN`."""
    driver.get(f"http://127.0.0.1:{port}/")
    driver.execute_script("sessionStorage.setItem('token', arguments[0])", TOKEN)
    driver.refresh()


def picture(driver: Any, path: Path, *, whole: bool = False) -> None:
    """Write what is shown, or the whole page."""
    import base64

    more: dict[str, Any] = {}
    if whole:
        size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        more = {"captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "scale": 1, **_of(size)}}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", **more})
    path.write_bytes(base64.b64decode(shot["data"]))


def _of(size: dict[str, float]) -> dict[str, float]:
    return {"width": size["width"], "height": size["height"]}


def main(seconds: float = 45.0, to: Path = PICTURES) -> None:
    """Make all of them, after `seconds` of traffic."""
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="portfwd-") as made, shown(Path(made)) as ports:
        sizes = (("light", 1360, 900, False), ("dark", 1360, 900, True), ("phone", 390, 844, False))
        for name, width, height, dark in sizes:
            with chromium(Path(made, name), width, height, dark=dark) as driver:
                sign_in(driver, ports["web"])
                time.sleep(seconds)
                picture(driver, to / f"web-{name}.png")
                if name == "light":
                    driver.execute_script("document.querySelector('#sessions-table tbody tr').click()")
                    time.sleep(1.5)
                    picture(driver, to / "web-session.png")
                for entry in driver.get_log("browser"):
                    print(entry["level"], entry["message"])


if __name__ == "__main__":
    main(*(float(word) for word in sys.argv[1:2]), *(Path(word) for word in sys.argv[2:3]))
