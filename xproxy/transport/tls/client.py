"""Originating TLS: how a cluster's connections are made."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import attrs

from xproxy.transport.farewell import LINGER_SECONDS, linger
from xproxy.transport.stream import ByteStream, write_all
from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.contexts import client_context, signature
from xproxy.transport.tls.facts import TlsFacts
from xproxy.transport.tls.gate import HandshakeGate
from xproxy.transport.tls.handshake import Handshake
from xproxy.transport.tls.keylog import KeyLog
from xproxy.transport.tls.keys import TLS12
from xproxy.transport.tls.peers import SanPatterns, check, identity_of, names_of
from xproxy.transport.tls.stream import TlsStream

MAX_SESSIONS: Final = 256
"""Server names of which a session is kept to be resumed, one each; the oldest goes."""


@attrs.define(eq=False)
class ClientTls:
    """What a cluster needs to originate TLS. Made once; ``refresh`` follows files that change.

    Raises TlsOptionsError for files that cannot be used, naming them.
    """

    ca: str = ""
    """PEM file of the authorities that sign the upstream; empty: those of the system."""
    verify: bool = True
    """Whether the upstream's certificate is verified. Without it, anybody on the way can be the upstream."""
    sni: str = ""
    """Server name to ask for, and to verify, instead of the one given to ``connect``."""
    names: Sequence[str] = ()
    """Patterns of which the upstream's certificate must have one name (``peers.SanPatterns``), instead of the server
    name."""
    cert: str = ""
    """PEM file of our certificate, if the upstream asks for one."""
    key: str = ""
    """PEM file of its key."""
    alpn: Sequence[str] = ()
    """Application protocols to offer, the best first."""
    min_version: str = "1.2"
    max_version: str = "1.3"
    ciphers: str = ""
    """OpenSSL's cipher list for TLS 1.2; empty: forward secret AEADs."""
    movable: bool = True
    """Keep the session's secrets, so that it can be exported."""
    gate: HandshakeGate = attrs.field(factory=HandshakeGate)
    """Bounds this cluster's handshakes, whatever they offer."""
    key_log: KeyLog | None = attrs.field(init=False)
    """Where the context writes its secrets."""
    _context: ssl.SSLContext = attrs.field(init=False)
    _patterns: SanPatterns = attrs.field(init=False)
    _sessions: dict[str, ssl.SSLSession] = attrs.field(factory=dict, init=False)
    # Of the present context; OpenSSL takes no others.
    _signature: object = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.key_log = KeyLog() if self.movable else None
        self._patterns = SanPatterns(self.names)
        self._signature = self._signed()
        self._context = self._load()

    def _signed(self) -> object:
        return signature([name for name in (self.ca, self.cert, self.key) if name])

    def _load(self) -> ssl.SSLContext:
        return client_context(
            ca=self.ca,
            verify=self.verify,
            check_name=not self._patterns,
            certificate=(self.cert, self.key or self.cert) if self.cert else None,
            alpn=self.alpn,
            versions=(self.min_version, self.max_version),
            ciphers=self.ciphers,
            key_log=self.key_log,
        )

    def refresh(self) -> bool:
        """Load the files again if one of them changed; tell whether they were. Raises TlsOptionsError.

        Files that cannot be used change nothing, and are looked at again once they change again.
        """
        found = self._signed()
        if found == self._signature:
            return False
        self._signature = found
        self._context = self._load()
        self._sessions = {}
        return True

    def begin(self, server_name: str | None) -> tuple[Handshake, Callable[[ssl.SSLSession], None]]:
        """Return a handshake that has not begun, and who remembers what the next one can resume.

        Raises TlsError for a name that cannot be asked for.
        """
        name = self.sni or server_name or ""
        if self._context.check_hostname and not name:
            raise TlsError("no server name to verify the upstream's certificate by")
        handshake = Handshake(
            self._context,
            self.key_log,
            server_name=name or None,
            session=self._sessions.get(name),
            server=False,
        )
        return handshake, partial(_keep, self._sessions, name)

    def identify(self, ssl_object: ssl.SSLObject) -> str | None:
        """Return who the upstream is. Raises TlsError if it is not one of those wanted."""
        names, common_name = names_of(ssl_object)
        if self.verify:
            check(names, self._patterns, Alert.BAD_CERTIFICATE)
        return identity_of(names, common_name)


def _keep(sessions: dict[str, ssl.SSLSession], name: str, session: ssl.SSLSession) -> None:
    if name not in sessions and len(sessions) >= MAX_SESSIONS:
        del sessions[next(iter(sessions))]
    sessions[name] = session


async def connect(stream: ByteStream, tls: ClientTls, server_name: str | None) -> TlsStream:
    """Originate TLS on ``stream``; return what is inside.

    Raises TlsError, after the alert was sent, and what ``stream`` raises; the caller closes ``stream`` then. The
    deadline is the caller's.
    """
    async with tls.gate.place():
        handshake, keep = tls.begin(server_name)
        unread = await handshake.run(stream, b"", tls.gate)
    made = handshake.object
    cipher = handshake.cipher(keep)
    chosen = made.cipher()
    try:
        identity = tls.identify(made)
    except TlsError:
        await write_all(stream, cipher.refusal(Alert.BAD_CERTIFICATE))
        await linger(stream, longest=LINGER_SECONDS)
        raise
    facts = TlsFacts(
        sni=made.server_hostname,
        alpn=made.selected_alpn_protocol(),
        version=made.version() or "",
        cipher=chosen[0] if chosen else "",
        peer_identity=identity,
        resumed=bool(made.session_reused),
    )
    if facts.version == TLS12 and made.session is not None and made.session.has_ticket:
        keep(made.session)  # with TLS 1.3 tickets come later
    return TlsStream(stream, cipher, facts, unread)
