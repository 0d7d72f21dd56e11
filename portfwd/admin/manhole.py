# -*- test-case-name: tests.admin.test_manhole -*-
"""
A Python prompt inside the running forwarder, by SSH.

Public keys are the only way in: no other method is offered. A session can have a prompt and
nothing else; commands, subsystems, forwarded ports and agents are refused. Each log-in has a
namespace of its own. What is typed runs in the forwarder itself: a loop without an end
stops all traffic, which is why nobody gets here whom the file of keys does not name.
"""

from __future__ import annotations

import builtins
import pydoc
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from twisted.conch import avatar
from twisted.conch.checkers import IAuthorizedKeysDB, SSHPublicKeyChecker
from twisted.conch.error import ConchError
from twisted.conch.insults import insults
from twisted.conch.interfaces import IConchUser
from twisted.conch.interfaces import ISession as IConchSession
from twisted.conch.manhole import Manhole, ManholeInterpreter
from twisted.conch.manhole_ssh import TerminalSessionTransport
from twisted.conch.ssh import connection, factory, session, transport, userauth
from twisted.conch.ssh.keys import Key
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger, LogLevel
from twisted.python import components
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.admin.doors import Standing
from portfwd.values import printable

#: Seconds until a client must have logged in; OpenSSH's LoginGraceTime is twice that.
LOGIN_TIME: Final = 60
#: Log-ins that may fail on one connection: OpenSSH's MaxAuthTries.
MAX_TRIES: Final = 6
#: What every OpenSSH of the last ten years knows; Twisted knows 3DES and MD5 as well.
CIPHERS: Final = (b"aes256-ctr", b"aes192-ctr", b"aes128-ctr")
MACS: Final = (b"hmac-sha2-512", b"hmac-sha2-256")
#: A terminal that does not say its size.
WIDTH: Final = 80
HEIGHT: Final = 24

#: What would read from the forwarder's own terminal, or stop it: names that a prompt must not have.
_BLOCKING: Final = ("input", "breakpoint", "license", "copyright", "credits")

Namespace = Mapping[str, object]


class _FailuresOnly(Logger):
    """Says nothing of what Twisted's SSH says of each client: who may only connect must not fill the log."""

    def emit(self, level: Any, format: str | None = None, **kwargs: object) -> None:  # noqa: A002 - Twisted's
        """See `Logger`."""
        if level is LogLevel.critical:
            super().emit(level, format, **kwargs)


class Leave:
    """``exit`` and ``quit``: end this log-in, not the forwarder."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave

    def __repr__(self) -> str:
        return "exit() or Ctrl-D ends this log-in; stop() ends the forwarder"

    def __call__(self, *ignored: object) -> None:
        """Leave."""
        self._leave()


class Help:
    """``help``: what is here; of one thing what Python's own would say, without its pager."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def __call__(self, *things: object) -> None:
        """Print it."""
        texts = [pydoc.plain(pydoc.render_doc(thing)) for thing in things] or [self._text]
        print("\n".join(texts))  # noqa: T201 - the prompt shows what is printed


class _Interpreter(ManholeInterpreter):
    """One that a ``SystemExit`` does not leave: above it is the reactor."""

    def runcode(self, *arguments: Any, **named: Any) -> None:
        """Run what was typed."""
        try:
            super().runcode(*arguments, **named)
        except SystemExit:
            self.handler.terminal.loseConnection()

    def displayhook(self, obj: object) -> None:
        """Show a value; the failure of a Deferred that is shown is no accident that the log should tell."""
        super().displayhook(obj)
        if isinstance(obj, Deferred):
            obj.addErrback(lambda failure: None)


class Prompt(Manhole):
    """The terminal of one log-in."""

    def __init__(self, namespace: Namespace, banner: str) -> None:
        super().__init__(dict(namespace))
        self._banner = banner

    def connectionMade(self) -> None:
        """Say where we are."""
        leave = Leave(lambda: self.terminal.loseConnection())
        own: dict[str, object] = {"exit": leave, "quit": leave, "help": Help(self._banner)}
        own["__builtins__"] = {
            name: value for name, value in vars(builtins).items() if name not in (*_BLOCKING, *own)
        }
        self.namespace = {**own, **(self.namespace or {})}
        super().connectionMade()
        self.interpreter = _Interpreter(self, self.namespace)

    def initializeScreen(self) -> None:
        """Show what there is; Twisted would clear the screen first."""
        self.terminal.write(self._banner.encode() + b"\n\n" + self.ps[self.pn])
        self.setInsertMode()

    def terminalSize(self, width: int, height: int) -> None:
        """Take note of it. Twisted would clear the screen, and what it says with it."""
        self.width = width
        self.height = height


class _Terminal(insults.ServerProtocol):
    """What stands between the prompt and the channel."""

    def __init__(
        self, prompt: type[Prompt], namespace: Namespace, banner: str, left: Callable[[], None]
    ) -> None:
        super().__init__(prompt, namespace, banner)
        self._left = left

    def loseConnection(self) -> None:
        """Leave the terminal as it was found, all that is written on it included; Twisted would clear it."""
        self.resetModes((insults.modes.IRM,))
        self._left()
        self.transport.loseConnection()  # type: ignore[union-attr]


class _Session:
    """One ``session`` channel: a prompt, if it asks for one."""

    def __init__(self, user: _User) -> None:
        self._user = user
        self._terminal: _Terminal | None = None
        self._size = (HEIGHT, WIDTH)

    def getPty(self, term: bytes, windowSize: Sequence[int], modes: object) -> None:
        """The terminal's size."""
        self._size = (windowSize[0], windowSize[1])

    def openShell(self, proto: Any) -> None:
        """Give it the prompt."""
        user, channel = self._user, proto.session

        def left() -> None:
            # RFC 4254 section 6.10: without it OpenSSH's client exits with 255.
            channel.conn.sendRequest(channel, b"exit-status", bytes(4))

        self._terminal = _Terminal(Prompt, user.namespace(), user.banner, left)
        height, width = self._size
        TerminalSessionTransport(proto, self._terminal, user, width, height)

    def execCommand(self, proto: object, command: bytes) -> None:
        """Refuse: there is a prompt and nothing else."""
        raise ConchError(b"this is a prompt; it runs no commands")

    def windowChanged(self, newWindowSize: Sequence[int]) -> None:
        """The terminal has another size."""
        prompt = None if self._terminal is None else self._terminal.terminalProtocol
        if prompt is not None:
            prompt.terminalSize(newWindowSize[1], newWindowSize[0])

    def eofReceived(self) -> None:
        """Nothing more will be typed."""
        if self._terminal is not None:
            self._terminal.loseConnection()

    def closed(self) -> None:
        """The channel is gone."""


class _User(avatar.ConchUser):
    """Who has logged in. It knows channels of the kind ``session`` and no other, and no global requests."""

    def __init__(self, namespace: Callable[[], Namespace], banner: str) -> None:
        super().__init__()
        self.namespace = namespace
        self.banner = banner
        self.channelLookup[b"session"] = session.SSHSession


components.registerAdapter(_Session, _User, IConchSession)


@implementer(IAuthorizedKeysDB)
class _ClientKeys:
    """Everybody may be called as he likes; the key decides."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys

    def getAuthorizedKeys(self, avatarId: object) -> Iterable[Key]:
        """All of them."""
        return self._keys


class _Checker(SSHPublicKeyChecker):
    """Lets in who has one of the keys, and says so in the log."""

    _log = Logger()

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes]:
        """Judge a signature."""

        def logged_in(name: bytes) -> bytes:
            self._log.info(
                "shell: {name} logged in with key {key}",
                name=printable(name.decode("utf-8", "replace")),
                key=Key.fromString(credentials.blob).fingerprint(),
            )
            return name

        judged: Deferred[bytes] = super().requestAvatarId(credentials)
        return judged.addCallback(logged_in)


@implementer(IRealm)
class _Realm:
    def __init__(self, namespace: Callable[[], Namespace], banner: str) -> None:
        self._namespace = namespace
        self._banner = banner

    def requestAvatar(self, avatarId: object, mind: object, *interfaces: object) -> tuple[Any, Any, Any]:
        """A user without anything of another's."""
        return IConchUser, _User(self._namespace, self._banner), lambda: None


class _Authentication(userauth.SSHUserAuthServer):
    """As Twisted's; that gives ten hours, and twenty tries."""

    loginTimeout = LOGIN_TIME
    _log = _FailuresOnly()
    attemptsBeforeDisconnect = MAX_TRIES


class _Transport(transport.SSHServerTransport):
    """One connection; it must log in within `LOGIN_TIME`, key exchange included."""

    ourVersionString = b"SSH-2.0-portfwd"
    _log = _FailuresOnly()
    clock: IReactorTime
    standing = Standing.SILENT
    _late: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Somebody is there."""
        self.supportedCiphers, self.supportedMACs = list(CIPHERS), list(MACS)
        # Twisted decompresses before the log-in, without a bound.
        self.supportedCompressions = [b"none"]
        self._late = self.clock.callLater(LOGIN_TIME, self._is_late)
        super().connectionMade()

    def _is_late(self) -> None:
        self._late = None
        self.transport.abortConnection()  # type: ignore[union-attr]

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def setService(self, service: Any) -> None:
        """Key exchange, then log-in, then the connection."""
        if isinstance(service, connection.SSHConnection):
            self.standing = Standing.LOGGED_IN
            self._in_time()
        super().setService(service)

    def connectionLost(self, reason: Failure | None = connectionDone) -> None:
        """It is gone."""
        self._in_time()
        super().connectionLost(reason)


class ManholeFactory(factory.SSHFactory):
    """Makes the SSH servers of one manhole."""

    protocol = _Transport
    noisy = False
    _log = _FailuresOnly()

    def __init__(
        self,
        keys: Sequence[Key],
        host_key: Key,
        clock: IReactorTime,
        namespace: Callable[[], Namespace],
        banner: str,
    ) -> None:
        """
        :param keys: who has one of them is let in.
        :param namespace: is called for each log-in.
        :param banner: what is there, for people.
        """
        kind = host_key.sshType()
        self.publicKeys = {kind: host_key.public()}
        self.privateKeys = {kind: host_key}
        self.services = {b"ssh-userauth": _Authentication, b"ssh-connection": connection.SSHConnection}
        self.portal = Portal(_Realm(namespace, banner), [_Checker(_ClientKeys(keys))])
        self._clock = clock

    def __repr__(self) -> str:
        return "<ManholeFactory>"

    def serve(self, who: str) -> Protocol:
        """A server for one client."""
        server = self.buildProtocol(None)
        assert isinstance(server, _Transport)
        server.clock = self._clock
        return server
