# -*- test-case-name: tests.test_extras -*-
"""
The command that installs what an extra of portfwd needs, for the Python that runs.

The command names the libraries themselves: where portfwd was installed from is not known here. It reads no
file: the paths of an interpreter tell who manages its packages.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Final

from attrs import frozen

#: The library of each extra, as pip names it, and Debian's package of what the extra adds to portfwd's.
LIBRARIES: Final = {
    "manhole": ("twisted[conch]", "python3-bcrypt"),
    "metrics": ("prometheus-client", "python3-prometheus-client"),
    "yaml": ("PyYAML", "python3-yaml"),
}
#: Only the Python of Debian and its derivatives looks there. Its pip installs into virtual environments only
#: (PEP 668).
_DEBIAN: Final = "/usr/lib/python3/dist-packages"


@frozen
class Interpreter:
    """
    A Python interpreter and its environment.

    :ivar executable: path of the program; may be empty.
    :ivar prefix: directory of the environment.
    :ivar base_prefix: that of the installation on which a virtual environment is based, else the same.
    :ivar path: directories with modules.
    """

    executable: str
    prefix: str
    base_prefix: str
    path: Sequence[str]


def running() -> Interpreter:
    """The interpreter of this process."""
    return Interpreter(sys.executable or "", sys.prefix, sys.base_prefix, tuple(sys.path))


def how_to_install(extra: str, python: Interpreter | None = None) -> str:
    """
    Return what to do if a library of `extra` is missing: a hint with one command.

    :param python: None for the interpreter of this process.
    """
    python = running() if python is None else python
    return f"install the extra '{extra}': {_command(*LIBRARIES[extra], python)}"


def _command(library: str, package: str, python: Interpreter) -> str:
    if python.prefix == python.base_prefix and _DEBIAN in python.path:
        return f"apt install {package}"
    library, program = shlex.quote(library), shlex.quote(python.executable or "python3")
    *above, name = python.prefix.replace("\\", "/").rstrip("/").split("/")
    if above[-2:] == ["pipx", "venvs"]:
        return f"pipx inject {name} {library}"
    if above[-2:] == ["uv", "tools"]:
        return f"uv pip install --python {program} {library}"  # there is no pip in it
    return f"{program} -m pip install {library}"
