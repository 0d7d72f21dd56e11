"""
The oldest versions that are allowed, as constraints for pip: ``python3 .ci/oldest.py pyproject.toml``.

A line for each dependency, ``name==version`` from ``name>=version``; constraints have no extras.
"""

from __future__ import annotations

import re
import sys
import tomllib

LOWEST = re.compile(r"^(?P<name>[\w.-]+)(?:\[[\w,-]+\])?>=(?P<version>[\w.]+)$")


def oldest(text: str) -> list[str]:
    """The pins of a pyproject.toml's dependencies, those of running it only."""
    pins = []
    for one in tomllib.loads(text)["project"]["dependencies"]:
        found = LOWEST.match(one)
        if found is None:
            raise ValueError(f"{one!r} has no lowest version")
        pins.append(f"{found['name']}=={found['version']}")
    return pins


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        print(*oldest(file.read()), sep="\n")
