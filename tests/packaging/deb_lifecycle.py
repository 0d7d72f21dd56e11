"""
The life of the Debian package on one machine: ``python3 deb_lifecycle.py FIRST.deb NEXT.deb``, as root.

It installs the first, forwards through it, reloads it, rotates its log, installs the next one while a session
is open, removes it and purges it. It changes the machine it runs on: `.ci/package` gives it a chroot. It says
what it does, with the seconds since its start, and ends with a traceback if something is not as it should be.
"""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

RULES = Path("/etc/portfwd/rules.conf")
LOG = Path("/var/log/portfwd/access.log")
BEGUN = time.monotonic()


def say(text: str) -> None:
    """A line of what has been shown."""
    print(f"{time.monotonic() - BEGUN:6.1f}s  {text}", flush=True)


def run(*command: str, code: int = 0) -> str:
    """Run a command that must end with `code`; what it said."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def apt(*words: str) -> str:
    """Run apt-get, which keeps changed configuration files."""
    options = ["-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"]
    # Its scripts find the systemctl of the test first.
    options += ["-o", "DPkg::Path=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    return run("apt-get", *options, *words)


def serve(listener: socket.socket) -> None:
    """Send back what comes, for each client until its end."""
    while True:
        client, _ = listener.accept()
        threading.Thread(target=echo, args=(client,), daemon=True).start()


def echo(client: socket.socket) -> None:
    """One client."""
    with client:
        while data := client.recv(65536):
            client.sendall(data)


def connect(port: int) -> socket.socket:
    """A client that has had an answer."""
    client = socket.create_connection(("127.0.0.1", port), 20)
    client.settimeout(20)
    asked(client)
    return client


def asked(client: socket.socket) -> None:
    """Ask and be answered."""
    client.sendall(b"hello")
    assert client.recv(5, socket.MSG_WAITALL) == b"hello"


def main(first: str, following: str) -> None:
    """All of it."""
    run("ip", "link", "set", "lo", "up") if Path("/usr/sbin/ip").exists() else loopback_up()
    upstream = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(upstream,), daemon=True).start()
    target = f"127.0.0.1:{upstream.getsockname()[1]}"

    apt("install", first)
    user = pwd.getpwnam("portfwd")
    say(f"installed; user portfwd is {user.pw_uid}")
    if os.path.exists("/usr/bin/systemd-analyze"):
        said = run("systemd-analyze", "verify", "--man=no", "portfwd.service")
        assert "portfwd" not in said, said
        say(run("systemd-analyze", "security", "--offline=true", "portfwd.service").splitlines()[-1])
    assert "running" in run("portfwd", "status"), "the service runs at once"
    run("portfwd", "check", "/etc/portfwd/rules.conf", "--allow-empty")
    for path in ("usr/share/man/man1/portfwd-run.1.gz", "usr/share/bash-completion/completions/portfwd"):
        assert Path("/", path).exists(), path

    RULES.write_text(RULES.read_text() + f"\nweb: 127.0.0.1:80 -> {target}\n")
    run("systemctl", "reload", "portfwd.service")
    until(lambda: "web" in run("portfwd", "rules"), "the new rule is at work")
    with connect(80):
        say("reloaded: a port below 1024 forwards, without root")
    RULES.write_text(RULES.read_text() + "nonsense\n")
    assert run("systemctl", "reload", "portfwd.service", code=2).count("unknown directive"), "told"
    RULES.write_text(RULES.read_text().replace("nonsense\n", ""))
    say("a bad file is refused, and nothing has changed")

    until(lambda: "web" in LOG.read_text(), "the session is in the log")
    assert LOG.stat().st_uid == user.pw_uid
    run("logrotate", "--force", "/etc/logrotate.d/portfwd")
    connect(80).close()
    until(lambda: LOG.exists() and "web" in LOG.read_text(), "the new log is written")
    say("the log is rotated")

    session = connect(80)
    said: list[str] = []
    upgrade = threading.Thread(target=lambda: said.append(apt("install", following)))
    pid = run("cat", "/run/portfwd.service.pid")
    upgrade.start()
    until(lambda: refused(80), "no more clients are accepted")
    asked(session)
    say("upgrade: new clients are not accepted, the open session still is answered")
    session.close()
    upgrade.join()
    assert said, "the upgrade succeeded"
    assert "1 open session(s) have 30 seconds" in said[0], said[0]
    assert run("cat", "/run/portfwd.service.pid") != pid, "another process"
    until(lambda: not refused(80), "the new version listens")
    connect(80).close()
    assert "web:" in RULES.read_text(), "the changed file is kept"
    say("upgraded: it said that it waited for 1 session, and the new version forwards by the same rules")

    apt("remove", "portfwd")
    assert not process_is_there(), "the process is gone"
    assert RULES.exists(), "configuration stays"
    apt("purge", "portfwd")
    for path in (RULES, LOG.parent, Path("/usr/lib/python3/dist-packages/portfwd"), Path("/usr/lib/portfwd")):
        assert not path.exists(), path
    say("removed and purged: no process, no file of it is left")


def loopback_up() -> None:
    """Bring the loopback interface up, where there is no ip(8): SIOCSIFFLAGS."""
    import fcntl
    import struct

    with socket.socket() as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))


def refused(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def process_is_there() -> bool:
    """Whether a process of the service is there."""
    own = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"/usr/bin/portfwd\0run" in path.read_bytes():
                own.append(path)
        except OSError:
            continue
    return bool(own)


def until(reached: object, what: str) -> None:
    """Look again and again until it is so."""
    assert callable(reached)
    end = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < end, f"it is not so that {what}"
        time.sleep(0.05)


if __name__ == "__main__":
    os.umask(0o022)
    main(*sys.argv[1:])
