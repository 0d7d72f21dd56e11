# -*- test-case-name: tests.service.daemon.test_rule_files -*-
"""
What the rules file and its includes have in them, and the names on the file system that decide it.

It reads files and symbolic links, so it is called in a thread once the forwarder runs.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Final

from attrs import frozen

from portfwd.service.daemon.reading import ReadBefore

#: Symbolic links on the way to one file: as the kernel has it.
MAX_LINKS: Final = 40


@frozen
class RuleFiles:
    """
    Files at one time.

    :ivar digest: of all texts; a file that cannot be read counts with the reason.
    :ivar names: for each directory the names, or patterns of them, whose change can be one of the rules.
    :ivar own: the directories that the rules file and its includes are in.
    """

    digest: bytes
    names: Mapping[str, frozenset[str]]
    own: frozenset[str]

    def concerns(self, directory: str, name: str) -> bool:
        """Whether a change of `name` in `directory` can be one of the rules."""
        return any(fnmatchcase(name, pattern) for pattern in self.names.get(directory, ()))


def rule_files(path: str, before: ReadBefore) -> RuleFiles:
    """The rules file and what it includes; `before` has read them."""
    digest = sha256()
    names: dict[str, set[str]] = {}
    own: set[str] = set()
    for file, text in before.texts.items():
        found = text if isinstance(text, str) else repr(text)
        digest.update(b"%d " % len(found))
        digest.update(found.encode("utf-8", "surrogatepass"))
        for directory, name in steps_to(file):
            names.setdefault(directory, set()).add(glob.escape(name))
        own.add(directory)
    for pattern, beside in before.patterns:
        directory, name = os.path.split(os.path.join(os.path.dirname(os.path.abspath(beside)), pattern))
        for place in glob.glob(directory) if glob.has_magic(directory) else [directory]:
            for above, step in steps_to(place):
                names.setdefault(above, set()).add(glob.escape(step))
            real = os.path.realpath(place)
            names.setdefault(real, set()).add(name)
            own.add(real)
    return RuleFiles(
        digest.digest(), {place: frozenset(found) for place, found in names.items()}, frozenset(own)
    )


def steps_to(path: str) -> Iterator[tuple[str, str]]:
    """
    Every name that is looked up on the way to `path`, each with its directory; the file's own is the last.

    The directories have no symbolic link in them. What is not there is followed as if it were no link.
    """
    todo = os.path.abspath(path).split(os.sep)[1:]
    links = 0
    directory = os.sep
    while todo:
        name = todo.pop(0)
        if name in ("", os.curdir):
            continue
        if name == os.pardir:
            directory = os.path.dirname(directory)
            continue
        yield directory, name
        here = os.path.join(directory, name)
        try:
            target = os.readlink(here)
        except OSError:
            directory = here
            continue
        links += 1
        if links > MAX_LINKS:
            return
        todo = target.split(os.sep) + todo
        if target.startswith(os.sep):
            directory = os.sep
