# -*- test-case-name: tests.service.daemon.test_rule_files -*-
"""
The contents of the rules file and its includes, and the file names whose changes affect them.

It reads files and symbolic links, so it is called in a thread while the forwarder runs.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Final

from attrs import frozen

from portfwd.service.daemon.reading import CachedFiles

#: Maximum number of symbolic links in the resolution of one path: the limit of the kernel.
MAX_LINKS: Final = 40


@frozen
class RuleFiles:
    """
    The rules file and its includes at one time.

    :ivar digest: digest of all texts. For a file that cannot be read, the error is used.
    :ivar names: for each directory the names, or patterns of names, whose change may change the rules.
    :ivar own: the directories of the rules file and its includes.
    """

    digest: bytes
    names: Mapping[str, frozenset[str]]
    own: frozenset[str]

    def concerns(self, directory: str, name: str) -> bool:
        """Whether a change of `name` in `directory` may change the rules."""
        return any(fnmatchcase(name, pattern) for pattern in self.names.get(directory, ()))


def rule_files(path: str, before: CachedFiles) -> RuleFiles:
    """The rules file at `path` and its includes, which `before` has read."""
    digest = sha256()
    names: dict[str, set[str]] = {}
    own: set[str] = set()
    for file, text in before.texts.items():
        found = text if isinstance(text, str) else repr(text)
        digest.update(b"%d " % len(found))
        digest.update(found.encode("utf-8", "surrogatepass"))
        for directory, name in resolved_names(file):
            names.setdefault(directory, set()).add(glob.escape(name))
        own.add(directory)
    for pattern, beside in before.patterns:
        directory, name = os.path.split(os.path.join(os.path.dirname(os.path.abspath(beside)), pattern))
        for place in glob.glob(directory) if glob.has_magic(directory) else [directory]:
            for above, step in resolved_names(place):
                names.setdefault(above, set()).add(glob.escape(step))
            real = os.path.realpath(place)
            names.setdefault(real, set()).add(name)
            own.add(real)
    return RuleFiles(
        digest.digest(), {place: frozenset(found) for place, found in names.items()}, frozenset(own)
    )


def resolved_names(path: str) -> Iterator[tuple[str, str]]:
    """
    All names that are looked up to resolve `path`, each with its directory. The name of the file is the last.

    The directories are free of symbolic links. A missing name is treated as if it were not a link.
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
