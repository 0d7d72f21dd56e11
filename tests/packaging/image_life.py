"""
The life of the container image: ``python3 image_life.py ROOT IMAGE.json``, as root, in namespaces of its own.

ROOT is the image's file system; IMAGE.json is what ``buildah inspect`` says of it. It does what a container
runtime does by the image's settings: the user, no capability, a read-only system with a tmpfs in it, the
command, the health check and the stop signal.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from deb_lifecycle import connect, loopback_up, run, say, serve, until

RULES = "admin unix:/run/portfwd/admin.sock\nweb: :80 -> {target}\n"
#: Every capability is given up, in all sets; what is executed gains none.
BECOME = (
    "setpriv",
    "--reuid={user}",
    "--regid={group}",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--ambient-caps=-all",
    "--no-new-privs",
)


class Container:
    """One container of the image."""

    def __init__(self, root: str, settings: dict[str, Any], rules: Path) -> None:
        self._root = root
        self._environment = dict(one.split("=", 1) for one in settings["Env"])
        user, group = settings["User"].split(":")
        assert int(user) > 0, "not root"
        become = [word.format(user=user, group=group) for word in BECOME]
        self._enter = [shutil.which("chroot") or "chroot", root, *become]
        run("mount", "--bind", root, root)
        run("mount", "-o", "remount,bind,ro", root)
        run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", f"{root}/run/portfwd")
        run("mount", "-t", "proc", "proc", f"{root}/proc")
        run("mount", "--bind", str(rules), f"{root}/etc/portfwd")
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")  # as container runtimes do
        self.process = self.start(*settings["Entrypoint"], *settings["Cmd"])

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A process of the container."""
        return subprocess.Popen(
            [*self._enter, *command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def healthy(self, command: list[str]) -> bool:
        """What the health check says."""
        process = self.start(*command)
        process.communicate()
        return process.returncode == 0


def main(root: str, inspected: str) -> None:
    """All of it."""
    settings = json.loads(Path(inspected).read_text())["Docker"]["config"]
    assert settings["StopSignal"] == "SIGTERM"
    kind, *check = settings["Healthcheck"]["Test"]
    assert kind == "CMD"
    loopback_up()
    upstream = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(upstream,), daemon=True).start()
    target = f"127.0.0.1:{upstream.getsockname()[1]}"
    rules = Path(inspected).with_name("rules")
    rules.mkdir(mode=0o755)
    (rules / "rules.conf").write_text(RULES.format(target=target))
    container = Container(root, settings, rules)
    try:
        until(lambda: container.healthy(check), "the health check is content")
        status = Path(f"{root}/proc/{container.process.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert {fields[f"Cap{one}"] for one in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}, status
        assert "0" not in fields["Uid"].split(), fields["Uid"]
        with connect(80):
            say("it is healthy and forwards port 80, with no capability at all, on a read-only system")
        (rules / "new").write_text(RULES.format(target=target) + f"more: :81 -> {target}\n")
        os.rename(rules / "new", rules / "rules.conf")
        until(lambda: listens(81), "the new rule is at work")
        say("a new rules file is applied by --watch")
        session = connect(80)
        container.process.send_signal(signal.SIGTERM)
        until(lambda: not listens(80), "no more clients are accepted")
        session.sendall(b"hello")
        assert session.recv(5, socket.MSG_WAITALL) == b"hello"
        session.close()
        said, _ = container.process.communicate(timeout=30)
        assert container.process.returncode == 0, said
        say("the stop signal drains: the open session is answered, then it ends with 0")
    finally:
        if container.process.poll() is None:
            container.process.kill()
            sys.stderr.write(container.process.communicate()[0])


def listens(port: int) -> bool:
    """Whether a client is accepted there."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        time.sleep(0.05)
        return False
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
