# -*- test-case-name: tests.service.build.test_openings -*-
"""
The list of all things that a start opens, and their problems; used by ``check`` and by a start.

`openings` lists each thing with its place: directories of sockets, descriptions of endpoints, packages of
extras, files of keys, and files that are written. `opening_problems` checks them without binding, writing or
creating anything. A missing thing that the start needs is an error, another one a warning.
`portfwd.service.tls.problems` handles files of TLS, and `portfwd.service.build.filters` filters.

=====================  ==================================================================
code                   meaning
=====================  ==================================================================
no-directory           the directory of a socket, or of a file that is written, does not exist
not-a-socket           a directory, or a file of another kind, has the path of a socket
not-writable           a file that is written is a directory, or may not be written (a warning)
endpoint-refused       Twisted, or a plug-in of it, cannot make an endpoint of this description
not-installed          a package that the line needs, which is an extra, is not installed
loose-file             others than root and this user could change a file of keys, or reach a socket
unreadable-file        a file of keys cannot be read
=====================  ==================================================================

Facts that are only known at a start are not checked: whether an address is free, the sockets of systemd, and
the permissions of another user.
"""

from __future__ import annotations

import errno
import importlib
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from attrs import frozen
from twisted.internet import interfaces
from twisted.internet.endpoints import clientFromString, serverFromString
from zope.interface import directlyProvides

from portfwd.admin.tight_files import LooseFile, check_private, read_tight
from portfwd.admin.web.access import read_token
from portfwd.errors import Location, Problem, Severity, reason_of
from portfwd.extras import how_to_install
from portfwd.listen.unix_files import refuse_other_kinds
from portfwd.rules.admin_lines import ManholeSpec, admin_specs, manhole_specs, toxiproxy_spec, web_specs
from portfwd.rules.model import UNIX_KINDS, AccessLogFormat, FilterSpec, Kind, Ruleset
from portfwd.rules.status_lines import status_file
from portfwd.rules.whole_process import metrics_listener
from portfwd.service.build.targets import described
from portfwd.service.build.toxiproxy_config import read_proxies
from portfwd.service.daemon.creating import try_to_create
from portfwd.values import UnixAddress, printable

#: Filters that write the file of their option ``file=``.
WRITING_FILTERS: Final = frozenset({"record", "tee"})
#: Modules that need an extra and import no reactor, such as ``twisted.conch.manhole``.
MANHOLE_MODULES: Final = ("twisted.conch.ssh.keys",)
METRICS_MODULES: Final = ("prometheus_client",)
#: The setting by which a unit of systemd makes a directory in each of these (systemd.exec(5)).
UNIT_DIRECTORIES: Final = {
    "/run": "RuntimeDirectory",
    "/var/cache": "CacheDirectory",
    "/var/lib": "StateDirectory",
    "/var/log": "LogsDirectory",
}


#: The interfaces to which parsers of endpoints adapt a reactor.
_REACTOR_INTERFACES: Final = (
    interfaces.IReactorCore,
    interfaces.IReactorFDSet,
    interfaces.IReactorPluggableNameResolver,
    interfaces.IReactorProcess,
    interfaces.IReactorSSL,
    interfaces.IReactorSocket,
    interfaces.IReactorTCP,
    interfaces.IReactorThreads,
    interfaces.IReactorTime,
    interfaces.IReactorUDP,
    interfaces.IReactorUNIX,
)


class _NoReactor:
    """A placeholder for a reactor. Endpoints that are not started only store it."""

    nameResolver: Any = None  # noqa: N815 - Twisted's name

    def __init__(self) -> None:
        directlyProvides(self, *_REACTOR_INTERFACES)

    def installNameResolver(self, resolver: Any) -> Any:  # noqa: N802 - Twisted's
        """See `IReactorPluggableNameResolver`. It is never called."""
        return resolver


class Unmet(Exception):
    """
    A condition is not met; `str()` is the message.

    :ivar code: code of the problem.
    :ivar hint: the remedy.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


@frozen(eq=False)
class Opening:
    """
    One thing that a start opens.

    :ivar look: raises `Unmet` if it cannot be opened.
    :ivar needed: whether the start refuses without it.
    """

    where: Location
    look: Callable[[], None]
    needed: bool = True


def opening_problems(ruleset: Ruleset, reactor: Any = None) -> tuple[Problem, ...]:
    """
    Check all things, and return their problems in order.

    :param reactor: for parsers of endpoint descriptions, which store it; None to import no reactor.
    """
    problems: list[Problem] = []
    for opening in openings(ruleset, reactor):
        try:
            opening.look()
        except Unmet as unmet:
            severity = Severity.ERROR if opening.needed else Severity.WARNING
            problems.append(Problem(opening.where, unmet.code, str(unmet), unmet.hint, severity))
    return tuple(dict.fromkeys(problems))


def openings(ruleset: Ruleset, reactor: Any = None) -> Iterator[Opening]:
    """All things that a start opens, except ports, targets and files of TLS."""
    for rule in ruleset.rules:
        listen = rule.listen
        if listen.kind in UNIX_KINDS:
            yield Opening(listen.where, partial(_directory_of_socket, listen.path))
        if listen.kind is Kind.ENDPOINT:
            yield Opening(listen.where, partial(_endpoint, serverFromString, listen.path, reactor))
        for target in rule.every_target():
            if target.kind is Kind.ENDPOINT:
                yield Opening(target.where, partial(_endpoint, clientFromString, target.path, reactor))
        for spec in rule.filters:
            for path, where in _written_by(spec):
                yield Opening(where, partial(_writable, path, "nothing is kept until it is"), needed=False)
    for admin in admin_specs(ruleset):
        yield Opening(admin.where, partial(_directory_of_socket, admin.path))
    metrics = metrics_listener(ruleset)
    if metrics is not None:
        yield Opening(metrics.where, partial(_installed, "metrics", METRICS_MODULES))
        if metrics.kind is Kind.UNIX:
            yield Opening(metrics.where, partial(_directory_of_socket, metrics.path))
    for web in web_specs(ruleset):
        if web.listen.kind is Kind.UNIX:
            yield Opening(web.where, partial(_directory_of_socket, web.listen.path))
        if web.token is not None:
            path = os.path.abspath(web.token)
            yield Opening(web.where, partial(_judged, partial(read_token, path), path))
    for manhole in manhole_specs(ruleset):
        yield from _of_manhole(manhole)
    toxiproxy = toxiproxy_spec(ruleset)
    if toxiproxy is not None:
        if isinstance(toxiproxy.address, UnixAddress):
            yield Opening(toxiproxy.where, partial(_directory_of_socket, toxiproxy.address.path))
        if toxiproxy.config is not None:
            yield Opening(toxiproxy.where, partial(_proxies, os.path.abspath(toxiproxy.config)))
    if ruleset.log.file is not None and ruleset.log.access is not AccessLogFormat.OFF:
        path = os.path.abspath(ruleset.log.file)
        hint = "without it no access line is written; make it, or name another file"
        yield Opening(ruleset.log.where, partial(_writable, path, hint), needed=False)
    status = status_file(ruleset)
    if status is not None:
        hint = "without it no status file is written; make it, or name another file"
        yield Opening(status.where, partial(_replaceable, os.path.abspath(status.path), hint), needed=False)
    if ruleset.pid_file is not None:
        where = Location(ruleset.files[0] if ruleset.files else "")
        hint = "without it no pid file is written; make it, or name another file"
        yield Opening(where, partial(_writable, os.path.abspath(ruleset.pid_file), hint), needed=False)


def _of_manhole(manhole: ManholeSpec) -> Iterator[Opening]:
    yield Opening(manhole.where, partial(_installed, "manhole", MANHOLE_MODULES))
    if isinstance(manhole.address, UnixAddress):
        yield Opening(manhole.where, partial(_private_socket, manhole.address.path))
    yield Opening(manhole.where, partial(_keys, os.path.abspath(manhole.keys)))
    if manhole.host_key is not None:
        yield Opening(manhole.where, partial(_host_key, os.path.abspath(manhole.host_key)))


def _written_by(spec: FilterSpec) -> Iterator[tuple[str, Location]]:
    """The files to which a filter appends, with their places."""
    if spec.name not in WRITING_FILTERS:
        return
    for number, (key, value) in enumerate(spec.options):
        if key == "file":
            places = spec.option_places[number : number + 1]
            yield value, places[0][1] if places else spec.where


def _directory_of_socket(path: str) -> None:
    if path.startswith("@"):
        return
    _directory(path, "make it before the start: a start does not make it")
    try:
        refuse_other_kinds(path)
    except FileExistsError as problem:
        hint = "remove it, or name another path"
        raise Unmet("not-a-socket", f"'{printable(path)}': {problem.strerror}", hint) from None


def _private_socket(path: str) -> None:
    _directory_of_socket(path)
    _judged(lambda: check_private(os.path.dirname(os.path.abspath(path))), path)


def _directory(path: str, hint: str) -> None:
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(directory):
        above, name = os.path.split(directory)
        if above in UNIT_DIRECTORIES:
            hint += (
                f"; a unit of systemd with {UNIT_DIRECTORIES[above]}={printable(name)} makes it at the start"
            )
        raise Unmet("no-directory", f"there is no directory '{printable(directory)}'", hint)


def _writable(path: str, hint: str) -> None:
    """Check that a file can be created or appended to, as far as possible without doing so."""
    _directory(path, hint)
    try:
        found = os.stat(path)
    except FileNotFoundError:
        directory = os.path.dirname(os.path.abspath(path))
        try:
            try_to_create(path)
        except PermissionError:
            path = directory
        except OSError as problem:
            raise Unmet("not-writable", f"'{printable(path)}': {problem.strerror}", hint) from None
        else:
            return
    except OSError as problem:
        raise Unmet("not-writable", f"'{printable(path)}': {problem.strerror}", hint) from None
    else:
        if stat.S_ISDIR(found.st_mode):
            raise Unmet("not-writable", f"'{printable(path)}' is a directory", "name a file in it")
    if not os.access(path, os.W_OK):
        raise Unmet(
            "not-writable",
            f"'{printable(path)}': {os.strerror(errno.EACCES)}",
            f"user {os.geteuid()} may not write there; give it the permission, or check as the user of the"
            " forwarder",
        )


def _replaceable(path: str, hint: str) -> None:
    """Check that a new file can replace `path`, for which the directory must be writable."""
    _directory(path, hint)
    if os.path.isdir(path):
        raise Unmet("not-writable", f"'{printable(path)}' is a directory", "name a file in it")
    _writable(os.path.dirname(path) + "/.new", hint)


def _keys(path: str) -> None:
    try:
        from portfwd.admin.shell_keys import read_client_keys
    except ImportError:
        _judged(lambda: read_tight(path), path)
    else:
        _judged(lambda: read_client_keys(path), path)


def _host_key(path: str) -> None:
    if not os.path.lexists(path):
        _directory(path, "make it before the start, which makes the key but no directory")
        return
    try:
        from portfwd.admin.shell_keys import read_host_key
    except ImportError:
        _judged(lambda: read_tight(path, secret=True), path)
    else:
        _judged(lambda: read_host_key(path), path)


def _proxies(path: str) -> None:
    try:
        read_proxies(path)
    except OSError as problem:
        raise Unmet("unreadable-file", f"'{printable(path)}' cannot be read: {reason_of(problem)}") from None
    except ValueError as problem:
        raise Unmet("json-syntax", f"'{printable(path)}': {problem}", "it is a list of proxies") from None


def _judged(look: Callable[[], object], path: str) -> None:
    try:
        look()
    except LooseFile as problem:
        raise Unmet("loose-file", str(problem)) from None
    except OSError as problem:
        raise Unmet("unreadable-file", f"'{printable(path)}' cannot be read: {reason_of(problem)}") from None


def _installed(extra: str, modules: tuple[str, ...]) -> None:
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as missing:
            raise Unmet(
                "not-installed",
                f"'{extra}' needs a package that is not installed ({missing})",
                f"{how_to_install(extra)}, or delete the line",
            ) from None


def _endpoint(parse: Callable[[Any, str], object], description: str, reactor: Any) -> None:
    if _is_systemds(description):
        return  # only a process that systemd has started knows its sockets
    try:
        described(description, partial(parse, _NoReactor() if reactor is None else reactor, description))
    except ValueError as problem:
        hint = "Twisted's kinds are tcp, ssl, unix and systemd; others need the package that brings them"
        raise Unmet("endpoint-refused", str(problem), hint) from None


def _is_systemds(description: str) -> bool:
    """Whether an endpoint uses a socket of systemd, with or without haproxy's prefix."""
    return description.removeprefix("haproxy:").startswith("systemd:")
