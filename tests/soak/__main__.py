"""``python -m tests.soak``: see the package. Exits with 1 if anything is not as it should be."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
from pathlib import Path

import trustme

from tests.integration.case import ACCIDENTS
from tests.integration.echo import EchoServer
from tests.integration.forwarder import Forwarder
from tests.ports import free_port
from tests.soak.clients import Crowd
from tests.soak.figures import Figures
from tests.soak.operators import Operators
from tests.soak.rules import PLACES, rules_text

#: Of the time, before the first figures are taken: caches, pools and free lists are filled by then.
WARM_UP = 0.4

#: For the C library of the forwarder: what it has freed goes back to the system. Else its heap grows for a
#: quarter of an hour before its holes are large enough for what comes next.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def soak(minutes: float, seed: int, size: int, directory: Path) -> list[str]:
    """
    Run, and say what it did.

    :param size: clients at a time.
    :returns: what is not as it should be.
    """
    echo = EchoServer()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    leaf = authority.issue_cert("localhost").private_key_and_cert_chain_pem
    leaf.write_to_path(str(directory / "server.pem"))
    ports = {place.name: free_port() for place in PLACES if place.kind != "unix"}
    ports["metrics"], ports["inside"] = free_port(), free_port()
    chance = random.Random(seed)

    def rules() -> str:
        return rules_text(directory, echo.port, ports, chance)

    same = rules_text(directory, echo.port, ports, random.Random(seed))

    os.environ.update(MALLOC)
    forwarder = Forwarder(directory, rules(), ["--drain", "2"])
    complaints: list[str] = []

    def run(seconds: float, number: int) -> None:
        crowd = Crowd(directory, ports, seed + number, size)
        operators = Operators(forwarder, ports, chance, rules)
        threading.Event().wait(seconds)
        operators.stop()
        crowd.stop()
        operators.agree(same)
        crowd.try_all()
        complaints.extend(crowd.complaints)
        complaints.extend(operators.complaints)
        print(f"{crowd.sessions} sessions of clients; {operators.done}", flush=True)

    try:
        forwarder.wait_until_ready()
        run(minutes * 60 * WARM_UP, 0)
        before = Figures.before(forwarder, ports)
        print(f"before: {before}", flush=True)
        run(minutes * 60 * (1 - WARM_UP), 1)
        after = Figures.after(forwarder, ports, before)
        print(f"after: {after}", flush=True)
        complaints.extend(after.complaints(before))
        code = forwarder.stop()
        if code:
            complaints.append(f"exit code {code}")
        complaints.extend(after.disagreements(directory / "access.log"))
        complaints.extend(line for line in forwarder.lines if any(word in line for word in ACCIDENTS))
    finally:
        forwarder.clean_up()
        echo.close()
        (directory / "event.log").write_text(forwarder.log)
    return complaints


def main() -> int:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="a directory for its files, which are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="portfwd-soak-") as made:
        directory = options.keep or Path(made)
        directory.mkdir(exist_ok=True)
        complaints = soak(options.minutes, options.seed, options.clients, directory.absolute())
    for line in complaints[:50]:
        print(f"WRONG: {line}")
    print(f"{len(complaints)} things are wrong" if complaints else "all is well")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
