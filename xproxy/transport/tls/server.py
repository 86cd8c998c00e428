"""Ending TLS: the certificates of a listener, and the handshake with its clients."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from functools import partial

import attrs

from xproxy.codecs.tls.hello import ClientHello, HelloBroken, HelloReader
from xproxy.transport.farewell import linger
from xproxy.transport.stream import ByteStream, write_all
from xproxy.transport.tls.alerts import Alert, TlsError, alert_record
from xproxy.transport.tls.contexts import (
    Certificate,
    ClientCertificates,
    TlsOptionsError,
    server_context,
    signature,
)
from xproxy.transport.tls.facts import TlsFacts
from xproxy.transport.tls.gate import HandshakeGate, TooManyHandshakes
from xproxy.transport.tls.handshake import Handshake
from xproxy.transport.tls.keylog import KeyLog
from xproxy.transport.tls.names import ServerNames
from xproxy.transport.tls.peers import SanPatterns, check, identity_of, names_of
from xproxy.transport.tls.stream import TlsStream
from xproxy.transport.tls.tickets import TicketKeys, Tickets, who_may_resume


@attrs.define(eq=False)
class ServerTls:
    """What a listener needs to end TLS. Made once; ``refresh`` follows files that change.

    Raises TlsOptionsError for files that cannot be used, naming them.
    """

    certificates: Sequence[Certificate]
    """Chosen by the server name asked for; the first serves clients that ask for none, or for another."""
    alpn: Sequence[str] = ()
    """Application protocols in our order of preference; empty: none is negotiated."""
    client: ClientCertificates = attrs.field(factory=ClientCertificates)
    min_version: str = "1.2"
    max_version: str = "1.3"
    ciphers: str = ""
    """OpenSSL's cipher list for TLS 1.2; empty: forward secret AEADs."""
    unknown_name: bool = True
    """Whether a name of no certificate gets the first one; if not, such clients and those without a name get
    ``unrecognized_name``."""
    tickets: Tickets = attrs.field(factory=Tickets)
    movable: bool = True
    """Keep the session's secrets, so that it can be exported."""
    gate: HandshakeGate = attrs.field(factory=HandshakeGate)
    """Bounds this listener's handshakes."""
    ticket_keys: TicketKeys = attrs.field(init=False)
    """Those of the contexts in use."""
    who_may_resume: bytes = attrs.field(init=False)
    """A digest of what clients must show: tickets of a process where it is another are not good here."""
    _key_log: KeyLog | None = attrs.field(init=False)
    _names: ServerNames[ssl.SSLContext] = attrs.field(init=False)
    _patterns: SanPatterns = attrs.field(init=False)
    _signature: object = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        if not self.certificates:
            raise TlsOptionsError("no certificate")
        self._key_log = KeyLog() if self.movable else None
        self._patterns = SanPatterns(self.client.names)
        self._signature = self._signed()
        self._names = self._load()

    def _signed(self) -> object:
        files = [name for c in self.certificates for name in (c.cert, c.key)]
        return signature(
            [*files, *([self.client.ca] if self.client.ca else []), *self.tickets.files]
        )

    def _load(self) -> ServerNames[ssl.SSLContext]:
        names: ServerNames[ssl.SSLContext] = ServerNames()
        keys = self.tickets.load(self.client)
        keys.prove(self.certificates[0])
        self.who_may_resume = who_may_resume(self.client)
        self.ticket_keys = keys
        for certificate in self.certificates:
            context = server_context(
                certificate,
                client=self.client,
                alpn=self.alpn,
                versions=(self.min_version, self.max_version),
                ciphers=self.ciphers,
                key_log=self._key_log,
            )
            keys.use_in(context)
            names.add(certificate.server_names(), context)
        return names

    def refresh(self) -> bool:
        """Load the files again if one of them changed; tell whether they were. Raises TlsOptionsError.

        Handshakes under way go on with what they began with. Files that cannot be used change nothing, and are
        looked at again once they change again.
        """
        found = self._signed()
        if found == self._signature:
            return False
        self._signature = found
        self._names = self._load()
        return True

    def choose(self, hello: ClientHello) -> ssl.SSLContext:
        """Return the context for a client. Raises TlsError with the alert it must get."""
        if self.alpn and hello.alpn and not set(hello.alpn) & set(self.alpn):
            raise TlsError("no application protocol in common", Alert.NO_APPLICATION_PROTOCOL)
        found = self._names.find(hello.server_name) if hello.server_name else None
        if found is None:
            if not self.unknown_name:
                what = "unknown server name" if hello.server_name else "no server name"
                raise TlsError(what, Alert.UNRECOGNIZED_NAME)
            found = self._names.first
        return found

    def identify(self, ssl_object: ssl.SSLObject) -> str | None:
        """Return who the client is. Raises TlsError if it is nobody wanted here."""
        if ssl_object.getpeercert(binary_form=True) is None:
            if self.client.mode == "require":
                raise TlsError("the client has no certificate", Alert.CERTIFICATE_REQUIRED)
            return None
        names, common_name = names_of(ssl_object)
        # Also one without any name: it has none of those wanted.
        check(names, self._patterns, Alert.ACCESS_DENIED)
        return identity_of(names, common_name)

    @property
    def key_log(self) -> KeyLog | None:
        """Where the contexts write their secrets."""
        return self._key_log


async def accept(stream: ByteStream, first: bytes, tls: ServerTls) -> TlsStream:
    """End TLS on ``stream``, of which ``first`` has been read; return what is inside.

    Raises TlsError, after the alert was sent and the client had a second to read it, and what ``stream`` raises; the
    caller closes ``stream`` then. The deadline is the caller's.
    """
    gate = tls.gate
    try:
        async with gate.place():
            # Within the bound, as whoever waits for a turn costs memory too.
            hello, first = await _hello(stream, first, gate)
            context = tls.choose(hello)
            if stream.hung_up:
                # It can answer no more: a flood of those that come and go need not be computed.
                raise TlsError("the peer ended the connection within the handshake")
            # Of the same loading as the context: what is loaded meanwhile has other keys.
            serve = partial(tls.ticket_keys.serve, hello.server_name)
            handshake = Handshake(context, tls.key_log, server=True, before=serve)
            try:
                unread = await handshake.run(stream, first, gate)
            except TlsError as exc:
                exc.told = True
                raise
    except TlsError as exc:
        if exc.alert is not None and not exc.received and not exc.told:
            stream.write_now(alert_record(exc.alert))  # seven bytes
        if not isinstance(exc, TooManyHandshakes):
            await linger(stream)
        raise
    cipher = handshake.cipher()
    made = handshake.object
    chosen = made.cipher()
    try:
        identity = tls.identify(made)
    except TlsError as exc:
        await write_all(stream, cipher.refusal(exc.alert or Alert.ACCESS_DENIED))
        await linger(stream)
        raise
    facts = TlsFacts(
        sni=hello.server_name,
        alpn=made.selected_alpn_protocol(),
        version=made.version() or "",
        cipher=chosen[0] if chosen else "",
        peer_identity=identity,
        resumed=bool(made.session_reused),
    )
    return TlsStream(stream, cipher, facts, unread)


async def _hello(
    stream: ByteStream, first: bytes, gate: HandshakeGate
) -> tuple[ClientHello, bytes]:
    data = first
    reader = HelloReader()
    while True:
        await gate.turn()  # a flood of them is work as well
        begin = time.perf_counter()
        found = reader.read(data)
        gate.spend(time.perf_counter() - begin)
        if isinstance(found, ClientHello):
            return found, data
        if isinstance(found, HelloBroken):
            raise TlsError(f"no ClientHello: {found.detail}", Alert.DECODE_ERROR)
        while len(data) < found.at_least:
            more = await stream.read()
            if not more:
                raise TlsError("the connection ended within the ClientHello")
            data += more
