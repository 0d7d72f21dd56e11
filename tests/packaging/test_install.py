"""
Every way of installing gives the same program: wheel, editable and sdist.

Each is built from a copy of this tree and put into a virtual environment of
its own, with no network: the build backend and the dependencies are those of
the environment that runs the tests, lent by a ``.pth`` file. Nothing is
installed into that environment, and nothing is written into the tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import TestCase

import portfwd

ROOT = Path(__file__).resolve().parents[2]
#: What a build reads; `.git`, environments and caches stay behind.
BUILD_INPUT = ("portfwd", "twisted", "docs", "examples")
BUILD_FILES = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore")
#: All are of the ``test`` extra; somebody may still run the tests without it.
NEEDED = ("hatchling", "editables", "build", "pip")
#: The ``twistd`` script belongs to the lending environment; this is what it says.
TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"
#: The upstream of the quick start is an endpoint plug-in, which has to be found too.
ENDPOINT = (
    "from twisted.internet import reactor; from twisted.internet.endpoints import clientFromString; "
    "print(clientFromString(reactor, 'portfwd-greeting:'))"
)


def run(*command: str | Path, cwd: Path) -> str:
    """
    Run `command` as a user would who knows nothing of this checkout.

    :returns: its standard output.
    :raises AssertionError: with both its outputs, when it fails.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        # trial's workers carry the checkout in PYTHONPATH: with it, any install would seem to work.
        if not name.startswith(("PYTHON", "COVERAGE"))
    }
    done = subprocess.run(
        [os.fspath(word) for word in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"{command} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class Workshop:
    """A copy of the tree, and what was built from it; thrown away by `close`."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="portfwd-packaging-"))
        self.source = self.path / "source"
        self.source.mkdir()
        litter = shutil.ignore_patterns("__pycache__", "_build")
        for room in BUILD_INPUT:
            shutil.copytree(ROOT / room, self.source / room, ignore=litter)
        # These stand for all of the tests: an sdist carries them, their number does not matter.
        shutil.copytree(ROOT / "tests" / "packaging", self.source / "tests" / "packaging", ignore=litter)
        for name in BUILD_FILES:
            shutil.copy(ROOT / name, self.source / name)
        # What twistd leaves in a tree that somebody has worked in.
        (self.source / "twisted" / "plugins" / "dropin.cache").write_bytes(b"this machine's")
        self.elsewhere = self.path / "elsewhere"
        self.elsewhere.mkdir()

    def build(self, kind: str, source: Path | None = None) -> Path:
        """
        What ``python -m build`` makes.

        :param kind: ``--wheel`` or ``--sdist``.
        :param source: None: the copy.
        """
        source = self.source if source is None else source
        out = Path(tempfile.mkdtemp(dir=self.path))
        command = (sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", out, source)
        run(*command, cwd=self.elsewhere)
        (built,) = out.iterdir()
        return built

    def environment(self, name: str) -> Path:
        """A new virtual environment that can import what this one can, but not this checkout."""
        path = self.path / name
        venv.create(path, with_pip=False, symlinks=True)
        site = self.site_packages(path)
        # Added after its own site-packages, and the .pth files in there are not read a second time: an
        # editable install of this checkout stays invisible.
        lent = [place for place in sys.path if place.endswith(("site-packages", "dist-packages"))]
        (site / "lent.pth").write_text("".join(f"{place}\n" for place in lent))
        return path

    def site_packages(self, environment: Path) -> Path:
        """Where `environment` keeps what is installed in it."""
        paths = {"base": os.fspath(environment), "platbase": os.fspath(environment)}
        return Path(sysconfig.get_path("purelib", "venv", vars=paths))

    def install(self, environment: Path, *what: str | Path) -> None:
        """Install `what` into `environment`, without its dependencies and without a network."""
        python = environment / "bin" / "python"
        options = (
            "--quiet",
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
            "--disable-pip-version-check",
        )
        command = (sys.executable, "-m", "pip", "--python", python, "install", *options, *what)
        run(*command, cwd=self.elsewhere)

    def uninstall(self, environment: Path, *names: str) -> None:
        """Remove packages from `environment`."""
        python = environment / "bin" / "python"
        run(sys.executable, "-m", "pip", "--python", python, "uninstall", "--yes", *names, cwd=self.elsewhere)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.path)


class InstallTests(TestCase):
    """What a user gets who installs in one of the three ways."""

    if missing := [name for name in NEEDED if find_spec(name) is None]:
        skip = f"needs {', '.join(missing)}"

    def setUp(self) -> None:
        self.workshop = Workshop()
        self.addCleanup(self.workshop.close)

    def check_installed(self, environment: Path, home: Path) -> None:
        """Both programs of `environment` work from another directory, with the code under `home`."""
        elsewhere = self.workshop.elsewhere
        plugin = run(
            environment / "bin" / "python",
            "-c",
            "from twisted.plugins import portfwd_plugin; print(portfwd_plugin.__file__)",
            cwd=elsewhere,
        )
        self.assertEqual(Path(plugin.strip()), home / "twisted" / "plugins" / "portfwd_plugin.py")
        listing = run(environment / "bin" / "python", "-c", TWISTD, "--help", cwd=elsewhere)
        self.assertRegex(listing, r"(?m)^    portfwd +Forward ports")
        reactors = run(environment / "bin" / "python", "-c", TWISTD, "--help-reactors", cwd=elsewhere)
        self.assertRegex(reactors, r"(?m)^    portfwd\s+waits on portfwd's epoll set")
        endpoint = run(environment / "bin" / "python", "-c", ENDPOINT, cwd=elsewhere)
        self.assertIn("Greeting", endpoint)
        options = run(environment / "bin" / "python", "-c", TWISTD, "portfwd", "--help", cwd=elsewhere)
        self.assertIn("--rule", options)
        version = run(environment / "bin" / "portfwd", "--version", cwd=elsewhere)
        self.assertIn(portfwd.__version__, version)

    def test_wheel(self) -> None:
        """An installed wheel shows the plug-in to twistd and brings the ``portfwd`` command."""
        environment = self.workshop.environment("from-wheel")
        self.workshop.install(environment, self.workshop.build("--wheel"))
        self.check_installed(environment, self.workshop.site_packages(environment))

    def test_sdist(self) -> None:
        """So does an installed sdist, which pip builds first."""
        environment = self.workshop.environment("from-sdist")
        self.workshop.install(environment, self.workshop.build("--sdist"))
        self.check_installed(environment, self.workshop.site_packages(environment))

    def test_editable(self) -> None:
        """So does an editable install, whose code stays in the tree."""
        environment = self.workshop.environment("editable")
        self.workshop.install(environment, "--editable", self.workshop.source)
        self.check_installed(environment, self.workshop.source)

    def test_wheel_contents(self) -> None:
        """The wheel holds the package, its type marker and the plug-in: nothing of ours but these."""
        with zipfile.ZipFile(self.workshop.build("--wheel")) as archive:
            names = set(archive.namelist())
        self.assertIn("portfwd/py.typed", names)
        self.assertIn("portfwd/service/tap.py", names)
        others = {name for name in names if not name.startswith("portfwd")}
        # An __init__.py in twisted/ would hide Twisted itself; dropin.cache would name this machine's files.
        plugins = {f"twisted/plugins/{path.name}" for path in (ROOT / "twisted" / "plugins").glob("*.py")}
        self.assertEqual(others, plugins)
        self.assertIn("twisted/plugins/portfwd_plugin.py", plugins)
        self.assertTrue(any(name.endswith(".dist-info/licenses/LICENSE") for name in names), names)

    def test_sdist_contents(self) -> None:
        """The sdist can be tested and documented from, and carries nobody's caches."""
        with tarfile.open(self.workshop.build("--sdist")) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        wanted = {
            "CHANGELOG.md",
            "LICENSE",
            "README.md",
            "docs/conf.py",
            "portfwd/py.typed",
            "pyproject.toml",
            "tests/packaging/test_install.py",
            "twisted/plugins/portfwd_plugin.py",
        }
        self.assertEqual(wanted - names, set())
        unwanted = {name for name in names if name.endswith(("dropin.cache", ".pyc"))}
        self.assertEqual(unwanted, set())
