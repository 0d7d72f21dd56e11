# -*- test-case-name: tests.service.tls.test_problems -*-
"""
The files that the TLS options of a rule name, and the option to which a problem belongs.

A problem with a file is reported at the option that names the file. All missing files are reported together.
`portfwd.service.tls.problems` checks the contents of the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from attrs import frozen

from portfwd.errors import Location, Problem
from portfwd.rules.model import TLS_KINDS, ListenSpec, Rule, TargetSpec
from portfwd.values import printable

#: The unique names of the options whose files must exist at a start.
_LISTENER: Final = ("cert", "key", "key-password-file", "client-ca", "crl")
#: The option whose file is written.
KEYLOG: Final = "keylog"
_TARGET: Final = ("ca", "client-cert", "client-key", "client-key-password-file", "target-crl")
#: The attribute of an exception with the options of `while_reading`.
_OPTIONS: Final = "portfwd_options"


class Unusable(ValueError):
    """
    A file or a setting of TLS cannot be used; `str()` is the message followed by the remedy.

    :ivar message: the message without the remedy.
    :ivar hint: the remedy.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


@contextmanager
def while_reading(*options: str) -> Iterator[None]:
    """
    Note in an exception for which options files were read, because several options may name one file.

    :param options: the names of options, as in messages.
    """
    try:
        yield
    except (OSError, ValueError) as problem:
        vars(problem).setdefault(_OPTIONS, options)
        raise


def _options_of(problem: Exception) -> tuple[str, ...]:
    """The options of `while_reading`; none if unknown."""
    options: tuple[str, ...] = vars(problem).get(_OPTIONS, ())
    return options


def place_of(problem: Exception, places: Mapping[str, Location], otherwise: Location) -> Location:
    """The place of a problem of a listener that no file causes; `places` are those of the rule's options."""
    return next((places[one] for one in _options_of(problem) if one in places), otherwise)


@frozen
class OptionFile:
    """
    A file that an option names.

    :ivar where: the place of the option, or that of its listener or target if the file does not write it.
    """

    option: str
    path: str
    where: Location


def files_of(spec: ListenSpec | TargetSpec, places: Mapping[str, Location]) -> tuple[OptionFile, ...]:
    """The files that the options of `spec` name; `places` are those of the rule's options."""
    names = _LISTENER if isinstance(spec, ListenSpec) else _TARGET
    found = ((name, getattr(spec.options, name.replace("-", "_"))) for name in names)
    return tuple(
        OptionFile(name.removeprefix("target-"), path, places.get(name, spec.where))
        for name, path in found
        if path is not None
    )


def written_files(spec: ListenSpec | TargetSpec, places: Mapping[str, Location]) -> tuple[OptionFile, ...]:
    """The files that are written, as `files_of` returns those that are read."""
    path = spec.options.keylog if isinstance(spec, ListenSpec) else None
    return () if path is None else (OptionFile(KEYLOG, path, places.get(KEYLOG, spec.where)),)


def missing(files: Iterable[OptionFile]) -> Iterator[Problem]:
    """An error for each file that does not exist."""
    for file in files:
        try:
            os.stat(file.path)
        except OSError as problem:
            yield _of_system(file, problem)


def located(files: Iterable[OptionFile], where: Location, problem: Exception) -> Problem:
    """An error at the option whose file caused `problem`, or at `where` if no file did."""
    said, hint = (problem.message, problem.hint) if isinstance(problem, Unusable) else (str(problem), "")
    options = _options_of(problem)
    for file in sorted(files, key=lambda one: one.option not in options):
        shown = f"{file.option}={printable(file.path)}"
        if isinstance(problem, OSError) and problem.filename == file.path:
            return _of_system(file, problem)
        if said.startswith(f"{file.path}: "):
            return Problem(file.where, "bad-tls", shown + said[len(file.path) :], hint)
        if said.startswith(f"{shown}: "):
            return Problem(file.where, "bad-tls", said, hint)
    return Problem(where, "bad-tls", said, hint)


def _of_system(file: OptionFile, problem: OSError) -> Problem:
    """An error of the system for a file."""
    message = f"{file.option}={printable(file.path)}: {problem.strerror}"
    hint = _way_to_write(problem, file.path) if file.option == KEYLOG else way_out(problem, file.path)
    return Problem(file.where, "bad-tls", message, hint)


def _way_to_write(problem: OSError, path: str) -> str:
    """The remedy for a file that cannot be written. A start creates it, but not its directory."""
    if isinstance(problem, PermissionError):
        return "give the user of the portfwd process permission to write it"
    directory = os.path.dirname(os.path.realpath(path))
    if not os.path.lexists(directory):
        return f"make the directory '{printable(directory)}', or name a file in another one"
    return "name a file in a directory in which it can be created"


def way_out(problem: OSError, path: str) -> str:
    """The remedy for a file that cannot be read."""
    if isinstance(problem, PermissionError):
        return "give the user of the portfwd process permission to read it"
    if not isinstance(problem, FileNotFoundError | NotADirectoryError):
        return "name a file that can be read"
    hint = "put the file there, or name the path at which it is"
    if not os.path.isabs(path):
        hint += "; a relative path starts in the directory in which portfwd is started"
    return hint


def reason_with_remedy(problem: Exception) -> str:
    """Why files cannot be read again. An error of the system is told with its file and a remedy."""
    if isinstance(problem, OSError) and isinstance(problem.filename, str) and problem.strerror:
        path = problem.filename
        return f"{printable(path)}: {problem.strerror}; {way_out(problem, path)}"
    return str(problem)


def failures_of(rule: Rule, spec: ListenSpec | TargetSpec, problem: Exception) -> Iterator[str]:
    """
    The reasons why a listener or a target of `rule` could not be prepared, one line each, as ``check`` words
    them.

    :param problem: the exception that was raised.
    """
    places = dict(rule.places)
    files = files_of(spec, places) if spec.kind in TLS_KINDS else ()
    where = spec.where
    if isinstance(spec, ListenSpec):
        where = place_of(problem, places, places.get("cert", where))
    for one in tuple(missing(files)) or (located((*files, *written_files(spec, places)), where, problem),):
        yield f"{rule.name}: {one.message} ({one.location})" + (f"; {one.hint}" if one.hint else "")
