"""Tests of `portfwd.extras`: what a message advises if a library is missing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import portfwd
from portfwd.extras import LIBRARIES, Interpreter, how_to_install, running

ROOT = Path(__file__).resolve().parents[1]
DEBIAN = ("/usr/lib/python311.zip", "/usr/lib/python3.11", "/usr/lib/python3/dist-packages")
#: Extras for work on portfwd itself.
FOR_DEVELOPERS = {"test", "browser", "lint", "docs"}


class AdviceTests(SynchronousTestCase):
    """The command fits the interpreter."""

    def advice(self, prefix: str, base: str = "/usr", path: tuple[str, ...] = DEBIAN) -> str:
        """The command for the metrics of an interpreter in `prefix`."""
        said = how_to_install("metrics", Interpreter(f"{prefix}/bin/python3", prefix, base, path))
        start = "install the extra 'metrics': "
        self.assertEqual(said[: len(start)], start)
        return said[len(start) :]

    def test_virtual_environment(self) -> None:
        """pip of the environment, also if it sees Debian's packages."""
        for path in ((), DEBIAN):
            self.assertEqual(
                self.advice("/opt/portfwd", path=path),
                "/opt/portfwd/bin/python3 -m pip install prometheus-client",
            )

    def test_debian(self) -> None:
        """Debian's package, because pip refuses to install beside it."""
        self.assertEqual(self.advice("/usr"), "apt install python3-prometheus-client")

    def test_other_installation(self) -> None:
        """pip of an installation that is not Debian's."""
        said = self.advice("/usr/local", "/usr/local", ("/usr/local/lib/python3.13",))
        self.assertEqual(said, "/usr/local/bin/python3 -m pip install prometheus-client")

    def test_pipx(self) -> None:
        """pipx by the name of its environment."""
        for home in ("/home/a/.local/share/pipx", "/opt/pipx"):
            self.assertEqual(
                self.advice(f"{home}/venvs/portfwd"), "pipx inject portfwd prometheus-client", home
            )

    def test_uv(self) -> None:
        """uv, whose environments have no pip."""
        prefix = "/home/a/.local/share/uv/tools/portfwd"
        said = f"uv pip install --python {prefix}/bin/python3 prometheus-client"
        self.assertEqual(self.advice(prefix), said)

    def test_shell(self) -> None:
        """A shell takes the command as it is."""
        said = how_to_install("manhole", Interpreter("/a b/python", "/a b", "/usr", ()))
        self.assertTrue(said.endswith("'/a b/python' -m pip install 'twisted[conch]'"), said)
        self.assertIn("python3 -m pip", how_to_install("yaml", Interpreter("", "/x", "/usr", ())))

    def test_running(self) -> None:
        """Without an interpreter it is the one of this process."""
        self.assertEqual(how_to_install("yaml"), how_to_install("yaml", running()))


class ExtrasTests(SynchronousTestCase):
    """The extras that there are."""

    def test_all(self) -> None:
        """Each extra for users has its library here, and Debian's package suggests the package."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        extras = project["optional-dependencies"]
        self.assertEqual(LIBRARIES.keys(), extras.keys() - FOR_DEVELOPERS)
        control = (ROOT / "debian" / "control").read_text("utf-8")
        (suggested,) = re.findall(r"(?m)^Suggests:((?:.*\n )*.*)", control)
        page = (ROOT / "docs" / "how-to" / "install.md").read_text("utf-8")
        for extra, (library, package) in LIBRARIES.items():
            self.assertIn(library.lower(), [re.split("[<>=]", one)[0] for one in extras[extra]])
            self.assertIn(package, re.findall(r"[a-z0-9][\w.+-]+", suggested))
            self.assertIn(f"`{package}`", page)

    def test_nothing_else_advises_pip(self) -> None:
        """No message advises a bare 'pip install': it misses the environment, or is refused."""
        root = Path(portfwd.__file__).parent
        found = [
            path.relative_to(root).as_posix()
            for path in root.rglob("*.py")
            if "pip install" in path.read_text("utf-8")
        ]
        self.assertEqual(found, ["extras.py"])
