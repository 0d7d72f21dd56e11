#!/usr/bin/python3
"""
Stands for systemctl(1) and systemd in a chroot: what the scripts of a package and a test ask of them.

It starts ``ExecStart=`` of the unit as its user, with its directories, capability and notification socket,
waits for ``READY=1``, and stops it by TERM. Of the unit's hardening it takes the user and the capability.
What is asked is noted in ``/run/systemctl.log``.
"""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

UNITS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
TIMEOUT = 60.0


def unit_of(name: str) -> configparser.SectionProxy:
    """The service section of a unit; of what stands there twice, all values, a line each."""
    for directory in UNITS:
        path = directory / name
        if path.exists():
            section: dict[str, str] = {}
            for line in path.read_text().split("[Service]")[1].split("[Install]")[0].splitlines():
                key, equals, value = line.partition("=")
                if equals and not line.startswith("#"):
                    section[key] = f"{section[key]}\n{value}" if key in section else value
            parser = configparser.ConfigParser(interpolation=None)
            parser.optionxform = str  # type: ignore[assignment,method-assign]
            parser.read_dict({"Service": section})
            return parser["Service"]
    raise SystemExit(f"there is no unit {name}")


def pid_of(name: str) -> int:
    """The process of a unit that runs; 0 without one."""
    try:
        pid = int(Path(f"/run/{name}.pid").read_text())
        return pid if Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" else 0
    except (OSError, ValueError):
        return 0


def start(name: str) -> int:
    """Start a unit, and wait until it is ready."""
    if pid_of(name):
        return 0
    unit = unit_of(name)
    user = unit["User"]
    for place, key in (("/run", "RuntimeDirectory"), ("/var/log", "LogsDirectory")):
        directory = Path(place) / unit[key]
        directory.mkdir(exist_ok=True)
        shutil.chown(directory, user, user)
    notify = f"/run/{name}.notify"
    Path(notify).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(notify)
        os.chmod(notify, 0o777)
        ready.settimeout(TIMEOUT)
        capability = unit["AmbientCapabilities"].removeprefix("CAP_").lower()
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        become += [f"--inh-caps=-all,+{capability}", f"--ambient-caps=+{capability}", "--no-new-privs"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "NOTIFY_SOCKET": notify}
        before = subprocess.run([*become, *shlex.split(unit["ExecStartPre"])], env=environment, check=False)
        if before.returncode:
            return before.returncode
        with open(f"/run/{name}.out", "a") as out:
            process = subprocess.Popen(
                [*become, *shlex.split(unit["ExecStart"])],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                start_new_session=True,
            )
        Path(f"/run/{name}.pid").write_text(str(process.pid))
        while b"READY=1" not in ready.recv(4096):
            pass
    return 0


def stop(name: str) -> int:
    """Stop a unit, and wait for it."""
    pid = pid_of(name)
    if pid:
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + float(unit_of(name)["TimeoutStopSec"])
        while pid_of(name):
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
                return 1
            time.sleep(0.05)
    return 0


def reload(name: str) -> int:
    """Do each ``ExecReload=``."""
    for line in unit_of(name)["ExecReload"].splitlines():
        words = [word.replace("$MAINPID", str(pid_of(name))) for word in shlex.split(line)]
        code = subprocess.run(words, check=False).returncode
        if code:
            return code
    return 0


def main() -> int:
    """Do what the command line says."""
    with open("/run/systemctl.log", "a") as log:
        log.write(shlex.join(sys.argv[1:]) + "\n")
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    command, names = (words[0], words[1:]) if words else ("", [])
    if command == "is-enabled":
        print("enabled")
        return 0
    if command == "is-active":
        print("active" if pid_of(names[0]) else "inactive")
        return 0 if pid_of(names[0]) else 3
    if command == "kill":
        (number,) = (word.partition("=")[2] for word in sys.argv if word.startswith("--signal="))
        os.kill(pid_of(names[0]), signal.Signals[f"SIG{number}"])
        return 0
    steps = {"start": [start], "stop": [stop], "restart": [stop, start], "reload": [reload]}.get(command, [])
    for name in names:
        if not name.startswith("portfwd"):
            continue
        for step in steps:
            code = step(name)
            if code:
                return code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
