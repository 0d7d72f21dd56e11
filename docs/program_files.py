# -*- test-case-name: tests.test_program_files -*-
"""
The files that a package installs beside the program: manual pages, and completion for bash, zsh and fish.

argparse-manpage and shtab make them from the parser of the command line. They are kept in ``share/``, so that
a package needs neither to build. `docs.generate` writes them; a test fails where one is not current.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import shtab
from argparse_manpage.manpage import Manpage
from twisted.logger import LogLevel

from docs.tables import subcommands, usage
from portfwd.cli.main import make_parser
from portfwd.rules.options import OPTIONS
from portfwd.version import __version__

#: Of the pages' form; it is not the day of the build, so that two builds are alike.
DATE: Final = "2026-11-29"

#: Where each shell looks for its completions, below ``share/``.
COMPLETIONS: Final = {
    "bash": "bash-completion/completions/portfwd",
    "zsh": "zsh/site-functions/_portfwd",
    "fish": "fish/vendor_completions.d/portfwd.fish",
}


def _asked(kind: str, *, after: bool = False) -> dict[str, Any]:
    """
    Words that ``portfwd complete`` prints; zsh asks each time, and not once when it reads the file.

    :param after: whether they depend on the word before.
    """
    command, function = f"portfwd complete {kind}", f"_portfwd_{kind}"
    bash, zsh, fish = command, command, command
    if after:
        bash += ' "${COMP_WORDS[COMP_CWORD-1]}"'
        zsh += ' "${words[CURRENT-1]}"'
        fish += " (commandline -opc)[-1]"
    return {
        "bash": function,
        "zsh": function,
        "fish": f"({fish})",
        "preamble": {
            "bash": f'{function}() {{\n  compgen -W "$({bash})" -- "$1"\n}}',
            "zsh": f'{function}() {{\n  compadd -- ${{(f)"$({zsh})"}}\n}}',
        },
    }


#: What completes the words of each kind, which are told by how the help writes them.
WORDS: Final = {
    **dict.fromkeys(("FILE", "OUT", "PATH"), shtab.FILE),
    "RULE": _asked("rules"),
    "ID": _asked("sessions"),
    "TARGET": _asked("targets", after=True),
}
#: The same of words that are told by their command and its argument.
WORDS_OF: Final = {("help", "name"): _asked("plugins", after=True)}
#: Words that are always the same, by the command and its argument; the parser accepts others or none.
CHOICES: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("log-level", "level"): tuple(one.name for one in LogLevel.iterconstants()),
    ("options", "name"): tuple(dict.fromkeys(one.key for one in OPTIONS)),
}

#: Headings in descriptions that are sections of a manual page.
SECTIONS: Final = {"example": "EXAMPLES", "examples": "EXAMPLES", "exit codes": "EXIT STATUS"}

FILES = r"""
.TP
.I /etc/portfwd/rules.conf
the rules file of the service that a package installs
.TP
.I /run/portfwd/admin.sock
the control socket, where no other is named
"""
ENVIRONMENT = r"""
.TP
.B PORTFWD_ADMIN
the path of the control socket, for the commands that speak to a forwarder
"""


def program_files() -> Iterator[tuple[str, str]]:
    """Every file, as its path below ``share/`` and its text."""
    parser = make_parser()
    commands = subcommands(parser)
    about = {one.dest: one.help or "" for one in commands._choices_actions}
    names = ["portfwd", *(f"portfwd-{name}" for name in about)]
    for name, line in about.items():
        text = _page(commands.choices[name], f"portfwd-{name}", line, names)
        yield f"man/man1/portfwd-{name}.1", text
    # Each command has a page of its own: the first page only lists them.
    choices = dict(commands.choices)
    commands.choices.clear()
    yield "man/man1/portfwd.1", _page(parser, "portfwd", "forward ports, and steer what forwards", names)
    commands.choices.update(choices)
    every = {**CHOICES, ("help", "topic"): ("filter", "check", *about)}
    for name, one in (("", parser), *choices.items()):
        _say_what_completes(one, name, every)
    for shell, path in COMPLETIONS.items():
        # shtab 1.13 lets zsh complete the first of several words only.
        text = shtab.complete(parser, shell).replace('"(*)::', '"*:')
        yield path, "".join(f"{line.rstrip()}\n" for line in text.strip().splitlines())


def _page(parser: argparse.ArgumentParser, name: str, about: str, names: list[str]) -> str:
    """A manual page; lines of examples and exit codes stay as they are."""
    text, sections = _sections(f"{parser.description}\n{parser.epilog or ''}")
    parser.description = parser.epilog = None
    data = {"project_name": "portfwd", "version": __version__, "date": DATE, "description": about}
    page = Manpage(parser, {**data, "manual_title": "portfwd"})
    page.prog = name
    page.add_section("synopsis", "=", _escaped(usage(parser)))
    page.add_section("description", "=", text)
    for heading, lines in sections.items():
        page.add_section(heading, "=", _as_it_is(lines))
    if name == "portfwd":
        page.add_section("environment", "=", ENVIRONMENT.strip())
        page.add_section("files", "=", FILES.strip())
    others = [f".BR {one} (1)" for one in names if one != name] if name == "portfwd" else [".BR portfwd (1)"]
    page.add_section("see also", "=", ",\n".join(others).replace("-", r"\-"))
    head = f'.TH "{name.upper()}" "1" "{DATE}" "portfwd {__version__}" "portfwd"'
    lines = str(page).splitlines()
    # Its name of a page has a blank in it, and its empty lines are none that troff wants.
    return "\n".join([head, *(line for line in lines[1:] if line)]) + "\n"


def _sections(text: str) -> tuple[str, dict[str, list[str]]]:
    """The paragraphs of a description, and what stands beneath its headings."""
    found: dict[str, list[str]] = {}
    rest: list[str] = []
    into = rest
    for line in text.strip().splitlines():
        heading = SECTIONS.get(line.removesuffix(":")) if line.endswith(":") else None
        if heading:
            into = found.setdefault(heading, [])
        elif line and not line.startswith(" ") and into is not rest:
            into = rest
            into.append(line)
        else:
            into.append(line)
    return _laid_out("\n".join(rest).strip()), found


def _laid_out(text: str) -> str:
    """Paragraphs that troff fills, and indented lines that it does not."""
    parts = (_escaped(part) for part in text.split("\n\n"))
    return "\n.PP\n".join(f".nf\n{part}\n.fi" if part.startswith(" ") else part for part in parts)


def _as_it_is(lines: list[str]) -> str:
    return ".nf\n" + _escaped("\n".join(line.removeprefix("  ") for line in lines if line)) + "\n.fi"


def _escaped(text: str) -> str:
    return "\n".join(
        f"\\&{line}" if line.startswith(("'", ".")) else line
        for line in text.replace("\\", "\\e").replace("-", "\\-").splitlines()
    )


def _say_what_completes(
    parser: argparse.ArgumentParser, name: str, every: dict[tuple[str, str], tuple[str, ...]]
) -> None:
    for action in parser._actions:
        action.choices = every.get((name, action.dest), action.choices)
        words = WORDS_OF.get((name, action.dest)) or WORDS.get(str(action.metavar))
        if words is not None:
            action.complete = words  # type: ignore[attr-defined]


def stale(share: Path) -> Iterator[tuple[Path, str | None]]:
    """The files below `share` that are not current, each with what it should be; None for one too many."""
    wanted = {share / path: text for path, text in program_files()}
    for path, text in wanted.items():
        if not path.exists() or path.read_text() != text:
            yield path, text
    for path in share.rglob("*"):
        if path.is_file() and path not in wanted:
            yield path, None


def write(share: Path) -> Iterator[Path]:
    """Write the files that are not current, and remove those that are too many."""
    for path, text in stale(share):
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        yield path
