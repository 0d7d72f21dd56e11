"""
What the README and the documentation show is what a test has run.

A listing is a file under ``examples/`` or ``docs/listings/``. The README and the pages repeat it, or a
part of it, beneath a comment that names the file: `docs.generate` writes it there. Rules files are loaded by
`tests.test_examples`, shell listings are run here.
"""

from __future__ import annotations

import ast
import configparser
import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen
from twisted.python import reflect
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from docs import pictures, tables
from docs.api import API
from docs.generate import TABLE, current, excerpt, pages, stale
from portfwd.admin.commands import COMMANDS
from portfwd.admin.web.openapi import describe
from portfwd.cli.main import make_parser
from portfwd.filters.registry import BUILT_IN
from portfwd.logs.access_log import AccessLog as AccessLines
from portfwd.metrics.names import NAMES
from portfwd.relay.states import State
from portfwd.rules import admin_lines, advice
from portfwd.rules.codes import CODES
from portfwd.rules.directives import LOG_OPTIONS
from portfwd.rules.model import AccessLogFormat
from portfwd.rules.options import OPTIONS, Scope
from portfwd.rules.support import GAPS
from portfwd.service.build import openings
from portfwd.service.daemon.notify import STATUS_INTERVAL
from portfwd.service.tls import problems as tls_problems
from portfwd.upstreams.checks.registry import BUILT_IN as CHECKS
from portfwd.values import CloseReason, FlowSummary, InetAddress, SessionSummary, Side
from portfwd.version import __version__

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LISTINGS = DOCS / "listings"
EXAMPLES = ROOT / "examples"
UNITS = EXAMPLES / "systemd"

FENCE = re.compile(
    # Blocks of lists are indented.
    r"^(?P<ticks>[ ]*`{3,})(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=ticks)$",
    re.MULTILINE | re.DOTALL,
)
MARKER = re.compile(r"<!-- listing: (?P<file>\S+)(?: [^\n]*)? -->\n\Z")
#: What a block of plain text may not hold: a command, or a rule in any grammar.
PROGRAMS = "twistd|portfwd|curl|pip|python3?|systemctl|apt|apt-get|nc|kill"
COMMAND = re.compile(rf"^\s*(?:[$#] )?(?:sudo |\S*/)?(?:{PROGRAMS})\s", re.MULTILINE)
RULE = re.compile(
    # LISTEN, perhaps named and with options, and an arrow; or rinetd's four words.
    r"^\s*(?:[\w.-]+:\s+)?\S*:[\d-]+\S*\s+(?:[\w-]+=\S+\s+)*->\s|^\s*\S+ \d+ \S+ \d+ *(?:\[.*)?$",
    re.MULTILINE,
)
#: Seconds for a listing, which takes a few; generous, since it is only waited for in failures.
TIMEOUT = 240.0
#: Lines of the README that ``.ci/run`` runs as they are: they set up an environment, from a network.
RUN_BY_CI = {"quickstart.sh", "test.sh"}
#: Every command of ``portfwd`` that its help lists.
COMMAND_NAMES = tuple(one.dest for one in tables.subcommands(make_parser())._choices_actions)
#: What is shown with each of these endings, a test reads or runs.
TESTED_KINDS = {".cfg", ".conf", ".toml", ".sh", ".log", ".nginx", ".py", ".yaml"}

NOTHING = FlowSummary()
#: The session whose lines the reference shows.
SESSION = SessionSummary(
    id=7,
    rule="web",
    written=("0.0.0.0", "8080", "10.0.0.5", "80"),
    client=InetAddress("192.0.2.1", 40312),
    local=InetAddress("10.0.0.1", 8080),
    upstream=InetAddress("10.0.0.5", 80),
    opened_at=1795341600.25,
    connect_time=0.001204,
    first_byte=0.003411,
    duration=1.499817,
    to_upstream=FlowSummary(bytes=312, reads=1, writes=1),
    to_client=FlowSummary(bytes=48211, reads=2, writes=3, paused=0.0125),
    reason=CloseReason.NORMAL,
    ended_first=Side.CLIENT,
    relay="pair",
)
#: Runs the program that is named on the command line, with an upstream, and one client once it is up.
DRIVER = """
import runpy, sys
from twisted.application.service import IService
from twisted.internet import reactor
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory

class Upstream(Protocol):
    def connectionMade(self):
        self.transport.write(b"through")
        self.transport.loseConnection()

class Client(Protocol):
    def dataReceived(self, data):
        print(data.decode(), end="")
    def connectionLost(self, reason):
        reactor.stop()

reactor.listenTCP(8093, ServerFactory.forProtocol(Upstream), interface="127.0.0.1")
reactor.callWhenRunning(reactor.connectTCP, "127.0.0.1", int(sys.argv[2]), ClientFactory.forProtocol(Client))
listing = runpy.run_path(sys.argv[1])
service = IService(listing["application"])
service.privilegedStartService()
service.startService()
reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
reactor.run()
"""


@frozen
class Lines:
    """A log's destination that keeps the lines."""

    kept: list[str]

    def write(self, line: str) -> None:
        self.kept.append(line)


@frozen
class Block:
    """
    A fenced block of a page.

    :ivar place: ``file:line`` of its first fence.
    :ivar info: what stands behind the fence: a language, or a directive in braces.
    :ivar marker: the file that a comment right above it names, or empty.
    """

    page: Path
    place: str
    info: str
    body: str
    marker: str

    @property
    def shown(self) -> Path | None:
        """The file that it repeats."""
        return (ROOT / self.marker).resolve() if self.marker else None


def listings() -> list[Path]:
    """Every listing of the docs; what Python keeps beside those that were imported is none."""
    return sorted(path for path in LISTINGS.iterdir() if path.is_file())


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of `page` that stand outside of its tables."""
    text = TABLE.sub(lambda table: "\n" * table[0].count("\n"), page.read_text())
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        marker = MARKER.search(text, 0, match.start())
        place = f"{page.relative_to(ROOT)}:{line}"
        yield Block(
            page, place, match["info"].strip(), match["body"], "" if marker is None else marker["file"]
        )


class PageTests(SynchronousTestCase):
    """Pages show files, and text that nobody would type."""

    def test_current(self) -> None:
        """Listings and tables are those of today; ``python -m docs.generate`` writes them."""
        self.assertEqual([str(path.relative_to(ROOT)) for path, _ in stale()], [])

    def test_picture(self) -> None:
        """The picture of the architecture has the layers of the import contract, and pictures are current."""
        path = DOCS / "explanation" / "architecture.svg"
        self.assertEqual(path.read_text("utf-8"), pictures.architecture(ROOT))
        self.assertEqual((DOCS / "overview.svg").read_text("utf-8"), pictures.overview())
        self.assertEqual(list(pictures.write(ROOT)), [])

    def test_includes(self) -> None:
        """Whatever a page repeats is a file that lies where the tests look."""
        wrong = [
            f"{block.place}: {block.shown}"
            for page in pages()
            for block in blocks(page)
            if block.shown is not None
            and not (block.shown.is_file() and {EXAMPLES, LISTINGS} & set(block.shown.parents))
        ]
        self.assertEqual(wrong, [])

    def test_no_inline_listings(self) -> None:
        """A page itself has plain text only; descriptions of the interface are made from the code."""
        wrong = []
        for page in pages():
            if API.search(page.read_text("utf-8")):
                continue
            for block in blocks(page):
                if block.info == "{toctree}" or block.shown is not None:
                    continue
                if block.info != "text":
                    wrong.append(f"{block.place}: a block of {block.info or 'nothing'}")
                elif found := COMMAND.search(block.body) or RULE.search(block.body):
                    wrong.append(f"{block.place}: {found[0].strip()!r} belongs in a file that a test runs")
        self.assertEqual(wrong, [])

    def test_listings_are_recognised(self) -> None:
        """Rules of every grammar and commands are seen; diagrams and lines of a log are not."""
        for text in (
            "web: :8080 -> 10.0.0.5:80\n",
            ":80 -> unix:/run/x\n",
            "0.0.0.0 8022 10.0.0.5 22\n",
            "0 80 db 5432 [src=10.0.0.1]\n",
        ):
            self.assertTrue(RULE.search(text), text)
        for text in ("$ curl http://x/\n", ".venv/bin/twistd -n portfwd\n", "portfwd check x\n"):
            self.assertTrue(COMMAND.search(text), text)
        for text in ("  |--- FIN ------>|\n", "ACCEPTED -> DIALING\n", "session 7 web 1.2.3.4:5 -> done\n"):
            self.assertFalse(RULE.search(text) or COMMAND.search(text), text)

    def test_foreground(self) -> None:
        """A forwarder in the foreground is started by ``portfwd run``, since pipx has no ``twistd``."""
        files = [*pages(), *listings(), *(path for path in EXAMPLES.rglob("*") if path.is_file())]
        found = [
            f"{path.relative_to(ROOT)}: {line}"
            for path in files
            for line in path.read_text("utf-8").splitlines()
            if re.search(r"\btwistd (\S+ )*(-n|--nodaemon)\b.* portfwd\b", line)
        ]
        self.assertEqual(found, [])

    def test_servers_are_shown(self) -> None:
        """A page that shows how to fetch a file through a forwarder shows how to start the server too."""
        wrong = []
        for page in pages():
            shown: dict[Path, str] = {}
            for block in blocks(page):
                if block.shown is not None and block.shown.suffix == ".sh":
                    shown[block.shown] = shown.get(block.shown, "") + block.body
            for path, text in shown.items():
                server, fetched = "http.server", re.search(r"curl\b.* http://[^/\s]+/\S+\.\w+", text)
                if fetched and server in path.read_text() and server not in text:
                    wrong.append(f"{page.relative_to(ROOT)}: {path.name}")
        self.assertEqual(wrong, [])

    def test_every_listing_is_shown(self) -> None:
        """A listing that no page shows any more is a file to delete."""
        shown = {block.shown for page in pages() for block in blocks(page)}
        self.assertEqual([path.name for path in listings() if path not in shown], [])

    def test_kinds(self) -> None:
        """Every listing is of a kind that some test reads or runs."""
        self.assertEqual([path.name for path in listings() if path.suffix not in TESTED_KINDS], [])


class ReadmeTests(SynchronousTestCase):
    """The README repeats files that are tested."""

    def test_blocks(self) -> None:
        """Every block names a file."""
        found = list(blocks(ROOT / "README.md"))
        self.assertGreaterEqual(len(found), 5)
        for block in found:
            self.assertTrue(block.marker, f"{block.place}: no '<!-- listing: FILE -->' above it")

    def test_links(self) -> None:
        """Every link into the tree leads somewhere."""
        links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
        self.assertNotEqual(links, [])
        self.assertEqual([link for link in links if not (ROOT / link).exists()], [])

    def test_commands(self) -> None:
        """The two commands are one line each, name files that exist, and are run by ``.ci/run``."""
        script = ROOT / ".ci" / "run"
        for name in RUN_BY_CI:
            text = (LISTINGS / name).read_text()
            self.assertEqual(text.count("\n"), 1)
            files = [word for word in shlex.split(text) if word.startswith(("examples/", "tests"))]
            self.assertEqual([word for word in files if not (ROOT / word).exists()], [])
            if script.exists():  # an sdist has none
                self.assertIn(f"readme_line docs/listings/{name}", script.read_text())


class ProgramTests(SynchronousTestCase):
    """Listings that are programs do what they show."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp())
        self.place.mkdir()
        for directory in (EXAMPLES, LISTINGS):
            shutil.copytree(directory, self.place, dirs_exist_ok=True)
        programs = self.place / "bin"
        programs.mkdir()
        for program, module, function in (
            ("portfwd", "portfwd.cli.main", "main"),
            ("twistd", "twisted.scripts.twistd", "run"),
        ):
            start = f"import sys; from {module} import {function} as run"
            start += f"; sys.argv[0] = {program!r}; sys.exit(run())"
            path = programs / program
            path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{start}" "$@"\n')
            path.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{programs.resolve()}:{os.environ['PATH']}",
            "PYTHONPATH": os.fspath(ROOT),
        }

    def run_there(self, *command: str) -> str:
        """What `command` prints, in the directory with the examples; it must succeed."""
        # What a page shows has ports of its own: one at a time, whoever else runs these tests here.
        with open(Path(tempfile.gettempdir(), f"portfwd-listings-{os.getuid()}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            process = subprocess.Popen(
                command,
                cwd=self.place,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            try:
                out, err = process.communicate(timeout=TIMEOUT)
            finally:
                # What a listing started in the background ends with it, also if the listing failed.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.assertEqual(process.returncode, 0, f"{command}\n{out}\n{err}")
        return out

    def test_run(self) -> None:
        """Each shell listing runs to its end without an error."""
        if shutil.which("curl") is None:
            raise SkipTest("needs curl")
        scripts = sorted(path.name for path in LISTINGS.glob("*.sh") if path.name not in RUN_BY_CI)
        self.assertNotEqual(scripts, [])
        for script in scripts:
            self.run_there("bash", "-eu", script)

    def test_embed(self) -> None:
        """The program with a forwarder inside forwards, and ends in order."""
        self.assertEqual(self.run_there(sys.executable, "-c", DRIVER, "embed.py", "8092"), "through")

    def test_portforward(self) -> None:
        """The program with a factory of ours forwards, and ends in order."""
        self.assertEqual(self.run_there(sys.executable, "-c", DRIVER, "portforward.py", "8095"), "through")

    def test_embed_objects(self) -> None:
        """The application with objects forwards, and tells of the session."""
        said = self.run_there(sys.executable, "-c", DRIVER, "embed_objects.py", "8094")
        self.assertRegex(said, r"^through127\.0\.0\.1:\d+ 0 ")

    def test_units(self) -> None:
        """A systemd unit starts commands that portfwd has, with options that they know."""
        for path in (*UNITS.glob("*.service"), ROOT / "debian" / "portfwd.service"):
            unit = configparser.ConfigParser(interpolation=None, strict=False)
            unit.optionxform = str  # type: ignore[assignment,method-assign]
            unit.read_string(path.read_text())
            service = unit["Service"]
            check, start = shlex.split(service["ExecStartPre"]), shlex.split(service["ExecStart"])
            self.assertEqual((Path(check[0]).name, check[1]), ("portfwd", "check"))
            self.assertEqual(Path(start[0]).name, "portfwd")
            arguments = make_parser().parse_args(start[1:])
            self.assertEqual(arguments.config, check[-1])
            self.assertEqual(service["Type"], "notify")
            # Of an option that stands there twice the last is read here, and is done last.
            self.assertIn("kill -HUP $MAINPID", service["ExecReload"])
            drain = start[start.index("--drain") + 1]
            self.assertLess(int(drain), int(service["TimeoutStopSec"]))

    def test_units_verify(self) -> None:
        """systemd has nothing to say against the units, with programs where they name them."""
        analyze = shutil.which("systemd-analyze")
        if analyze is None:
            raise SkipTest("needs systemd-analyze")
        programs = (self.place / "bin").resolve()
        units = []
        for path in sorted(UNITS.iterdir()):
            if path.suffix in {".service", ".socket"}:
                unit = self.place / path.name
                unit.write_text(path.read_text().replace("/opt/portfwd/bin", os.fspath(programs)))
                units.append(os.fspath(unit.resolve()))
        self.assertEqual(len(units), 3)
        done = subprocess.run(
            [analyze, "verify", *units], capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_rating(self) -> None:
        """The exposure that systemd finds is the one on the page, or less in another version of systemd."""
        analyze = shutil.which("systemd-analyze")
        if analyze is None:
            raise SkipTest("needs systemd-analyze")
        command = [analyze, "security", "--offline=true", os.fspath(UNITS / "portfwd.service")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        found = re.search(r"exposure level for portfwd.service: (\d+\.\d+) OK", done.stdout)
        if found is None:
            raise SkipTest(f"systemd-analyze does not rate files: {done.stderr}")
        page = (DOCS / "how-to" / "systemd.md").read_text("utf-8")
        told = re.search(r'rates this unit (\d+\.\d+), "OK"', page)
        assert told is not None
        self.assertLessEqual(float(found[1]), float(told[1]) + 0.2)

    def test_watchdog(self) -> None:
        """The interval on the page is the one at which portfwd tells systemd that it runs."""
        page = (DOCS / "how-to" / "systemd.md").read_text("utf-8")
        self.assertIn(f"portfwd says every {STATUS_INTERVAL:g} seconds that it runs", page)


class LogTests(SynchronousTestCase):
    """The lines of the log that the reference shows are lines that portfwd writes."""

    def check(self, form: AccessLogFormat, name: str) -> None:
        """What `form` writes for `SESSION`, at its opening and its close, is the listing."""
        lines: list[str] = []
        log = AccessLines(form, Lines(lines), time.gmtime)
        log.opened(SESSION._replace(reason=None, duration=0.0, to_upstream=NOTHING, to_client=NOTHING))
        log.closed(SESSION)
        self.assertEqual("".join(f"{line}\n" for line in lines), (LISTINGS / name).read_text())

    def test_opened(self) -> None:
        """``opened=on`` has a line for the opening as well."""
        lines: list[str] = []
        log = AccessLines(AccessLogFormat.TEXT, Lines(lines), time.gmtime, opened=True)
        log.opened(SESSION._replace(reason=None, duration=0.001415, to_upstream=NOTHING, to_client=NOTHING))
        self.assertEqual("".join(f"{line}\n" for line in lines), (LISTINGS / "access-opened.log").read_text())

    def test_text(self) -> None:
        """``access=text`` is one line at the close."""
        self.check(AccessLogFormat.TEXT, "access-text.log")

    def test_json(self) -> None:
        """So is ``access=json``."""
        self.check(AccessLogFormat.JSON, "access-json.log")

    def test_rinetd(self) -> None:
        """``access=rinetd`` has a line for the opening too."""
        self.check(AccessLogFormat.RINETD, "access-rinetd.log")

    def test_common(self) -> None:
        """So has ``access=common``."""
        self.check(AccessLogFormat.COMMON, "access-common.log")


class FilterPageTests(SynchronousTestCase):
    """Each filter has a page, and all pages are made alike."""

    ROOM = DOCS / "reference" / "filters"
    HEADINGS = ("When to use it", "Options", "Example", "What it costs", "See also")

    def test_pages(self) -> None:
        """A page for each filter that portfwd brings, none for another, and the index lists them in order."""
        self.assertEqual(sorted(path.stem for path in self.ROOM.glob("*.md")), sorted({*BUILT_IN, "index"}))
        (contents,) = (one for one in blocks(self.ROOM / "index.md") if one.info == "{toctree}")
        self.assertEqual([line for line in contents.body.split("\n") if line[:1].isalpha()], sorted(BUILT_IN))

    def test_shape(self) -> None:
        """Each has the same headings, its filter's own options, and its example, which is a rules file."""
        for name in BUILT_IN:
            page = self.ROOM / f"{name}.md"
            text = page.read_text()
            self.assertTrue(text.startswith(f"# `{name}`\n"), name)
            self.assertEqual(tuple(re.findall(r"^## (.*)$", text, re.MULTILINE)), self.HEADINGS, name)
            self.assertIn(f"<!-- table: filter-options {name} -->", text)
            shown = [block.shown for block in blocks(page)]
            example = EXAMPLES / "filters" / f"{name}.conf"
            self.assertIn(example, shown, name)
            self.assertRegex(example.read_text(), rf"(?m)^\s+filter {name}\b")


class CheckPageTests(SynchronousTestCase):
    """Each check has a page, and all pages are made alike."""

    ROOM = DOCS / "reference" / "checks"

    def test_pages(self) -> None:
        """A page for each check, with its options and its example, and none for another."""
        self.assertEqual(sorted(path.stem for path in self.ROOM.glob("*.md")), sorted({*CHECKS, "index"}))
        for name in CHECKS:
            page = self.ROOM / f"{name}.md"
            text = page.read_text()
            self.assertTrue(text.startswith(f"# `{name}`\n"), name)
            headings = tuple(re.findall(r"^## (.*)$", text, re.MULTILINE))
            self.assertEqual(headings, ("When to use it", "Options", "Example", "What it costs"), name)
            self.assertIn(f"<!-- table: check-options {name} -->", text)
            self.assertIn(EXAMPLES / "checks" / f"{name}.conf", [block.shown for block in blocks(page)], name)


class SecurityTests(SynchronousTestCase):
    """``explanation/security.md``: what is said there is shown."""

    def test_named_tests_exist(self) -> None:
        """Every test that the page names is there, and every row of its tables of statements names one."""
        page = (DOCS / "explanation" / "security.md").read_text("utf-8")
        names = re.findall(r"`(tests(?:\.\w+)+)`", page)
        self.assertGreater(len(names), 30)
        for name in names:
            with self.subTest(name):
                self.assertIsNotNone(reflect.namedAny(name))
        for table in re.findall(r"\| what holds \| test \|\n\|---\|---\|\n((?:\|.*\n)+)", page):
            for row in table.splitlines():
                self.assertIn("`tests.", row)


class TableTests(SynchronousTestCase):
    """The tables of the reference hold everything that the code has."""

    def test_close_reasons(self) -> None:
        """One row for each close reason, in the order of the code."""
        rows = tables.close_reasons().splitlines()[2:]
        self.assertEqual([row.split("`")[1] for row in rows], [reason.code for reason in CloseReason])

    def test_options(self) -> None:
        """One row for each option, in the table of its scope, without an empty cell."""
        rows = [row for scope in Scope for row in tables.rule_options(scope.value).splitlines()[2:]]
        self.assertEqual(sorted(row.split("`")[1] for row in rows), sorted(option.key for option in OPTIONS))
        for row in rows:
            self.assertEqual(len([cell for cell in re.split(r"(?<!\\)\|", row) if cell.strip()]), 5, row)

    def test_codes(self) -> None:
        """One row for each code of a problem."""
        self.assertEqual(len(tables.diagnostic_codes().splitlines()), 2 + len(CODES))

    def test_codes_of_check(self) -> None:
        """Codes that only `check` and a start have are on the page of diagnostics."""
        page = (DOCS / "reference" / "diagnostics.md").read_text("utf-8")
        for module in (advice, openings, tls_problems):
            codes = re.findall(r"^([a-z]+(?:-[a-z]+)+)  +\S", module.__doc__ or "", re.MULTILINE)
            self.assertGreater(len(codes), 3)
            for code in codes:
                self.assertIn(f"`{code}`", page)

    def test_codes_that_are_raised(self) -> None:
        """Every code that a call of the package gives to a problem is on the page."""
        page = (DOCS / "reference" / "diagnostics.md").read_text("utf-8")
        makers = {"WordFault", "error", "warning", "fault", "Problem", "Unavailable"}
        codes: set[str] = set()
        for path in sorted((ROOT / "portfwd").rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                    said = [one.value for one in node.args if isinstance(one, ast.Constant)]
                    words = [one for one in said if isinstance(one, str)]
                    found = {one for one in words if re.fullmatch("[a-z]+(-[a-z]+)+", one)}
                    codes |= found if name in makers else set()
        self.assertGreater(len(codes), 60)
        for code in codes:
            self.assertIn(f"`{code}`", page)

    def test_options_of_directives(self) -> None:
        """Every option of a directive is named on the page of what the directive is for."""
        pages = {
            "log-formats.md": LOG_OPTIONS,
            "control.md": admin_lines.ADMIN_OPTIONS,
            "web.md": admin_lines.WEB_OPTIONS,
            "toxiproxy.md": admin_lines.TOXIPROXY_OPTIONS,
            "../how-to/python-prompt.md": admin_lines.MANHOLE_OPTIONS,
        }
        for name, options in pages.items():
            page = (DOCS / "reference" / name).read_text("utf-8")
            for option in options:
                self.assertRegex(page, rf"\b{option}[=`]", name)

    def test_not_yet(self) -> None:
        """One row for each gap of this version."""
        self.assertEqual(len(tables.not_yet().splitlines()), 2 + len(GAPS))

    def test_filters(self) -> None:
        """One row for each filter that portfwd brings, in order."""
        rows = tables.filters().splitlines()[2:]
        self.assertEqual([row.split("`")[1] for row in rows], sorted(BUILT_IN))

    def test_filter_options(self) -> None:
        """One row for each option of a filter, with its default; a filter without any says so."""
        made = tables
        rows = made.filter_options("python:tests.filters.plugins.ROUTER").splitlines()[2:]
        self.assertEqual([row.split("`")[1] for row in rows], ["mode", "trust", "wait", "names", "also"])
        self.assertIn("| Which one is taken. The key may be omitted. | first \\| last | needed |", rows[0])
        self.assertTrue(rows[2].endswith("| duration | `3s` |"), rows[2])
        self.assertTrue(rows[3].endswith("| file |  |"), rows[3])
        self.assertIn("It may be repeated.", rows[4])
        self.assertEqual(made.filter_options("python:tests.filters.plugins.Bare"), "It has no options.")

    def test_metrics(self) -> None:
        """One row for each metric, in the order of the page."""
        rows = tables.metric_names().splitlines()[2:]
        self.assertEqual([row.split("`")[1] for row in rows], [one.name for one in NAMES])

    def test_states(self) -> None:
        """One row for each state of a session; the last one leads nowhere."""
        rows = tables.session_states().splitlines()[2:]
        self.assertEqual(len(rows), len(State))
        self.assertEqual(rows[-1], "| `closed` |  |")

    def test_control_commands(self) -> None:
        """One row for each command of the control socket."""
        self.assertEqual(len(tables.control_commands().splitlines()), 2 + len(COMMANDS))

    def test_web_resources(self) -> None:
        """Each command is a resource of the web API, and the description beside the page is that of today."""
        resources = {
            row.split("`")[1].split()[1].partition("/")[0] for row in tables.web_resources().splitlines()[2:]
        }
        self.assertEqual(resources, set(COMMANDS))
        text = (DOCS / "reference" / "openapi.json").read_text("utf-8")
        self.assertEqual(json.loads(text), json.loads(json.dumps(describe(__version__))))

    def test_command_help(self) -> None:
        """The command line's page has what ``--help`` says of each command."""
        for command in ("portfwd", *COMMAND_NAMES):
            self.assertRegex(tables.command_help(command), r"\| `.*` \| .* \|")
        self.assertIn("--rule", tables.command_help("twistd"))

    def test_exit_codes(self) -> None:
        """Every command is in the one table of exit codes, and says what 0, 1 and 2 mean."""
        made = tables.exit_codes()
        for command in COMMAND_NAMES:
            self.assertEqual(made.count(f"`portfwd {command}`"), 1, command)
        groups = re.split(r"^\| `", made, flags=re.MULTILINE)[1:]
        self.assertGreater(len(groups), 9)
        for group in groups:
            self.assertEqual(re.findall(r"\| (\d+) \| \S", group)[:3], ["0", "1", "2"], group)

    def test_environment(self) -> None:
        """Every variable of the environment that the code reads has a row in the reference."""
        page = (DOCS / "reference" / "command-line.md").read_text("utf-8")
        read: set[str] = set()
        for path in sorted((ROOT / "portfwd").rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            if "environ" not in ast.unparse(tree):
                continue
            words = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
            read |= {one for one in words if isinstance(one, str) and re.fullmatch(r"[A-Z]+(_[A-Z]+)+", one)}
        self.assertGreaterEqual(read, {"PORTFWD_ADMIN", "NOTIFY_SOCKET", "LISTEN_FDS"})
        for name in read:
            self.assertIn(f"`{name}`", page)

    def test_escapes(self) -> None:
        """A bar in a cell does not begin another one."""
        self.assertEqual(tables.table(("a",), (("on | off",),)), "| a |\n| --- |\n| on \\| off |")


class GenerateTests(SynchronousTestCase):
    """The command that writes listings and tables into pages."""

    def setUp(self) -> None:
        """A tree with one listing."""
        self.root = Path(self.mktemp())
        (self.root / "docs").mkdir(parents=True)
        (self.root / "docs" / "a.sh").write_text("# one\necho 1\n\n# two\necho 2\n")

    def test_listing(self) -> None:
        """The block below the comment becomes the file, and the text around it stays."""
        page = "x\n<!-- listing: docs/a.sh -->\n```sh\nold\n```\ny\n"
        expected = "x\n<!-- listing: docs/a.sh -->\n```sh\n# one\necho 1\n\n# two\necho 2\n```\ny\n"
        self.assertEqual(current(page, self.root), expected)

    def test_part(self) -> None:
        """Words of the comment choose a part of the file."""
        page = '<!-- listing: docs/a.sh after "# one" before "# two" -->\n```sh\n```\n'
        self.assertIn("```sh\necho 1\n```", current(page, self.root))
        self.assertEqual(excerpt("a\nb\nc\n", "b", None, None), "b\nc\n")
        self.assertRaises(ValueError, excerpt, "a\n", None, "b", None)

    def test_table(self) -> None:
        """A table stands between its two comments."""
        page = "<!-- table: session-states -->\n<!-- end of table -->\n"
        made = current(page, self.root)
        self.assertIn("| state |", made)
        self.assertEqual(current(made, self.root), made)

    def test_stale(self) -> None:
        """Pages that are not current are found, with what they should be."""
        (self.root / "README.md").write_text("<!-- listing: docs/a.sh -->\n```sh\n```\n")
        (self.root / "docs" / "b.md").write_text("nothing\n")
        self.assertEqual([path.name for path, _ in stale(self.root)], ["README.md"])
