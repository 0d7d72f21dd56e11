# -*- test-case-name: tests.admin.test_manhole -*-
"""
A Python prompt inside the running forwarder, by SSH.

Clients authenticate by public key; no other method is offered. A session can only open a prompt; commands,
subsystems, port forwarding and agent forwarding are refused. Each log-in has its own namespace. The input
runs in the forwarder process, so an infinite loop blocks all traffic. Only the owners of the listed keys have
access.
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

from portfwd.admin.operator_port import Priority
from portfwd.values import printable

#: Maximum seconds from the connection to the log-in; OpenSSH's LoginGraceTime is twice that.
LOGIN_TIME: Final = 60
#: Maximum failed log-ins per connection: OpenSSH's MaxAuthTries.
MAX_TRIES: Final = 6
#: The ciphers that OpenSSH has supported for ten years. Twisted also supports 3DES and MD5.
CIPHERS: Final = (b"aes256-ctr", b"aes192-ctr", b"aes128-ctr")
MACS: Final = (b"hmac-sha2-512", b"hmac-sha2-256")
#: The size of a terminal that does not report it.
WIDTH: Final = 80
HEIGHT: Final = 24

#: Built-in names that a prompt must not have, because they read from the terminal of the forwarder or stop
#: it.
_BLOCKING: Final = ("input", "breakpoint", "license", "copyright", "credits")

Namespace = Mapping[str, object]


class _FailuresOnly(Logger):
    """Logs only failures. Twisted's SSH logs each connection, so a client could fill the log."""

    def emit(self, level: Any, format: str | None = None, **kwargs: object) -> None:  # noqa: A002 - Twisted's
        """See `Logger`."""
        if level is LogLevel.critical:
            super().emit(level, format, **kwargs)


class Leave:
    """``exit`` and ``quit``, which end the log-in and not the forwarder."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave

    def __repr__(self) -> str:
        return "exit() or Ctrl-D ends this log-in; stop() ends the forwarder"

    def __call__(self, *ignored: object) -> None:
        """End the log-in."""
        self._leave()


class Help:
    """``help``: shows the banner, or the help of Python for an object, without a pager."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def __call__(self, *things: object) -> None:
        """Print the help."""
        texts = [pydoc.plain(pydoc.render_doc(thing)) for thing in things] or [self._text]
        print("\n".join(texts))  # noqa: T201 - the prompt shows what is printed


class _Interpreter(ManholeInterpreter):
    """An interpreter that catches ``SystemExit``, which would stop the reactor."""

    def runcode(self, *arguments: Any, **named: Any) -> None:
        """See `InteractiveInterpreter`. ``SystemExit`` ends the log-in."""
        try:
            super().runcode(*arguments, **named)
        except SystemExit:
            self.handler.terminal.loseConnection()

    def displayhook(self, obj: object) -> None:
        """Show a value. The failure of a shown Deferred is not logged as unhandled."""
        super().displayhook(obj)
        if isinstance(obj, Deferred):
            obj.addErrback(lambda failure: None)


class Prompt(Manhole):
    """The terminal of one log-in."""

    def __init__(self, namespace: Namespace, banner: str) -> None:
        super().__init__(dict(namespace))
        self._banner = banner

    def connectionMade(self) -> None:
        """See `IProtocol`. Makes the namespace."""
        leave = Leave(lambda: self.terminal.loseConnection())
        own: dict[str, object] = {"exit": leave, "quit": leave, "help": Help(self._banner)}
        own["__builtins__"] = {
            name: value for name, value in vars(builtins).items() if name not in (*_BLOCKING, *own)
        }
        self.namespace = {**own, **(self.namespace or {})}
        super().connectionMade()
        self.interpreter = _Interpreter(self, self.namespace)

    def initializeScreen(self) -> None:
        """Write the banner. Twisted would clear the screen first."""
        self.terminal.write(self._banner.encode() + b"\n\n" + self.ps[self.pn])
        self.setInsertMode()

    def terminalSize(self, width: int, height: int) -> None:
        """Store the size. Twisted would clear the screen."""
        self.width = width
        self.height = height


class _Terminal(insults.ServerProtocol):
    """Connects the prompt to the channel."""

    def __init__(
        self, prompt: type[Prompt], namespace: Namespace, banner: str, left: Callable[[], None]
    ) -> None:
        super().__init__(prompt, namespace, banner)
        self._left = left

    def loseConnection(self) -> None:
        """Restore the modes of the terminal and close. Twisted would clear the screen."""
        self.resetModes((insults.modes.IRM,))
        self._left()
        self.transport.loseConnection()  # type: ignore[union-attr]


class _Session:
    """One ``session`` channel, which can open a prompt."""

    def __init__(self, user: _User) -> None:
        self._user = user
        self._terminal: _Terminal | None = None
        self._size = (HEIGHT, WIDTH)

    def getPty(self, term: bytes, windowSize: Sequence[int], modes: object) -> None:
        """See `ISession`. Stores the size of the terminal."""
        self._size = (windowSize[0], windowSize[1])

    def openShell(self, proto: Any) -> None:
        """See `ISession`. Opens the prompt."""
        user, channel = self._user, proto.session

        def left() -> None:
            # RFC 4254 section 6.10. Without it OpenSSH's client exits with 255.
            channel.conn.sendRequest(channel, b"exit-status", bytes(4))

        self._terminal = _Terminal(Prompt, user.namespace(), user.banner, left)
        height, width = self._size
        TerminalSessionTransport(proto, self._terminal, user, width, height)

    def execCommand(self, proto: object, command: bytes) -> None:
        """See `ISession`. Commands are refused."""
        raise ConchError(b"this manhole only opens a prompt; it runs no commands")

    def windowChanged(self, newWindowSize: Sequence[int]) -> None:
        """See `ISession`."""
        prompt = None if self._terminal is None else self._terminal.terminalProtocol
        if prompt is not None:
            prompt.terminalSize(newWindowSize[1], newWindowSize[0])

    def eofReceived(self) -> None:
        """See `ISession`. The end of the input ends the log-in."""
        if self._terminal is not None:
            self._terminal.loseConnection()

    def closed(self) -> None:
        """See `ISession`."""


class _User(avatar.ConchUser):
    """A logged-in client. It supports only channels of the type ``session``, and no global requests."""

    def __init__(self, namespace: Callable[[], Namespace], banner: str) -> None:
        super().__init__()
        self.namespace = namespace
        self.banner = banner
        self.channelLookup[b"session"] = session.SSHSession


components.registerAdapter(_Session, _User, IConchSession)


@implementer(IAuthorizedKeysDB)
class _ClientKeys:
    """The accepted keys, for any user name."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys

    def getAuthorizedKeys(self, avatarId: object) -> Iterable[Key]:
        """See `IAuthorizedKeysDB`."""
        return self._keys


class _Checker(SSHPublicKeyChecker):
    """Checks signatures of the accepted keys, and logs log-ins."""

    _log = Logger()

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes]:
        """See `ICredentialsChecker`."""

        def logged_in(name: bytes) -> bytes:
            self._log.info(
                "operator {name} (shell): logged in with key {key}",
                name=printable(name.decode("utf-8", "replace")),
                key=Key.fromString(credentials.blob).fingerprint(),
            )
            return name

        checked: Deferred[bytes] = super().requestAvatarId(credentials)
        return checked.addCallback(logged_in)


@implementer(IRealm)
class _Realm:
    def __init__(self, namespace: Callable[[], Namespace], banner: str) -> None:
        self._namespace = namespace
        self._banner = banner

    def requestAvatar(self, avatarId: object, mind: object, *interfaces: object) -> tuple[Any, Any, Any]:
        """See `IRealm`. Each log-in has its own user."""
        return IConchUser, _User(self._namespace, self._banner), lambda: None


class _Authentication(userauth.SSHUserAuthServer):
    """Twisted's authentication with lower limits. Its own limits are ten hours and twenty tries."""

    loginTimeout = LOGIN_TIME
    _log = _FailuresOnly()
    attemptsBeforeDisconnect = MAX_TRIES


class _Transport(transport.SSHServerTransport):
    """One connection. Key exchange and log-in together must finish within `LOGIN_TIME`."""

    ourVersionString = b"SSH-2.0-portfwd"
    _log = _FailuresOnly()
    clock: IReactorTime
    priority = Priority.INACTIVE
    _login_timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """See `IProtocol`."""
        self.supportedCiphers, self.supportedMACs = list(CIPHERS), list(MACS)
        # Compression is off, because Twisted decompresses without a limit before the log-in.
        self.supportedCompressions = [b"none"]
        self._login_timer = self.clock.callLater(LOGIN_TIME, self._login_timed_out)
        super().connectionMade()

    def _login_timed_out(self) -> None:
        self._login_timer = None
        self.transport.abortConnection()  # type: ignore[union-attr]

    def _cancel_login_timer(self) -> None:
        if self._login_timer is not None:
            self._login_timer.cancel()
            self._login_timer = None

    def setService(self, service: Any) -> None:
        """See `SSHServerTransport`. The connection service starts after the log-in."""
        if isinstance(service, connection.SSHConnection):
            self.priority = Priority.LOGGED_IN
            self._cancel_login_timer()
        super().setService(service)

    def connectionLost(self, reason: Failure | None = connectionDone) -> None:
        """See `IProtocol`."""
        self._cancel_login_timer()
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
        :param keys: the accepted public keys.
        :param namespace: makes the namespace of a log-in.
        :param banner: the text at the start of a log-in.
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
        """The server of one client."""
        server = self.buildProtocol(None)
        assert isinstance(server, _Transport)
        server.clock = self._clock
        return server
