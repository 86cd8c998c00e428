"""Session tickets: sealed with keys that several processes share, or with each context's own, or none at all."""

from __future__ import annotations

import hashlib
import hmac
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

from xproxy.codecs.state_kinds import octets, sequence
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.transport.tls.contexts import (
    VERSIONS,
    Certificate,
    ClientCertificates,
    TlsOptionsError,
    server_context,
)
from xproxy.transport.tls.libssl import Context, LibsslUnusable, TicketKey, libssl

KEY_BYTES: Final = 80
"""A key file: 16 bytes of name, 32 for the MAC, 32 for the cipher, as for nginx; ``openssl rand 80`` makes one."""
MAX_KEY_FILES: Final = 16
MAX_NAMES: Final = 256
"""Server names whose keys are kept; deriving them again costs some microseconds."""
MAX_EARLIER: Final = 4
"""Processes whose tickets are opened after this one has taken over, each from the one before."""


@attrs.frozen(repr=False)
class _Carried:
    secrets: list[bytes]


_SCHEMA: Final = StateSchema(
    "ticket keys",
    1,
    StateRecord(_Carried, state_field("secrets", sequence(octets(KEY_BYTES), MAX_EARLIER + 1))),
)


class TicketKeys:
    """What a set of contexts does about tickets. Keys are derived anew for each server name.

    So a session that was made under one name means nothing under another (RFC 6066 §3), whether it is resumed by a
    ticket of TLS 1.2 or of TLS 1.3.
    """

    def __init__(
        self, enabled: bool, secrets: Sequence[bytes] = (), *, shared: bool = True
    ) -> None:
        """``secrets``: what keys are derived from, the first for sealing; ``shared``: by other processes."""
        self._enabled = enabled
        self._secrets = list(secrets)
        self._shared = shared
        self._server_name = ""
        self._derived: dict[str, dict[bytes, TicketKey]] = {}

    def serve(self, server_name: str | None) -> None:
        """Say whose handshake the next step of OpenSSL's is; nothing else may run until that is over."""
        self._server_name = server_name or ""

    def current(self) -> dict[bytes, TicketKey]:
        """Return the keys for the handshake under way, by name: the first seals, all open."""
        name = self._server_name
        found = self._derived.get(name)
        if found is None:
            if len(self._derived) >= MAX_NAMES:
                self._derived.clear()
            keys = [TicketKey(_derive(secret, name.encode())) for secret in self._secrets]
            found = self._derived[name] = {key.name: key for key in keys}
        return found

    # ---- to the process that takes over

    def carry(self) -> bytes:
        """Return the secrets, so that the next process opens our tickets; empty: it needs none of us."""
        if not self._enabled or self._shared:
            return b""
        return _SCHEMA.pack(_Carried(self._secrets[: MAX_EARLIER + 1]))

    def resume(self, data: bytes) -> None:
        """Open tickets of earlier processes, too, and seal with what is our own. Raises ValueError."""
        secrets = _SCHEMA.unpack(data).secrets
        if any(len(secret) != KEY_BYTES for secret in secrets):
            raise ValueError(f"a secret of ticket keys has {KEY_BYTES} bytes")
        if not self._enabled or self._shared:
            raise ValueError("tickets are off here, or have keys from files")
        self._secrets = [self._secrets[0], *secrets][: MAX_EARLIER + 1]
        self._derived.clear()

    # ---- for contexts

    def use_in(self, context: Context) -> None:
        """Make ``context`` do so. Raises TlsOptionsError."""
        # Never by session id: OpenSSL would keep 20 000 sessions for each certificate, with what clients showed of
        # theirs 6 KiB each, and lose them with the process.
        try:
            libssl().without_session_cache(context)
        except LibsslUnusable:
            pass  # then it keeps some in memory, up to OpenSSL's own bound
        if self._enabled and self._secrets:
            try:
                libssl().use_ticket_keys(context, self.current)
                return
            except LibsslUnusable as exc:
                if self._shared:
                    raise TlsOptionsError(f"ticket keys cannot be shared here: {exc}") from exc
        # OpenSSL's own tickets would resume under every name of their certificate.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0

    def prove(self, certificate: Certificate) -> None:
        """See that one context resumes what another began, with shared keys. Raises TlsOptionsError."""
        if not (self._secrets and self._shared):
            return
        for version in VERSIONS:
            reused = _resumed([self._proof(certificate, version) for _ in range(2)])
            if not reused:
                raise TlsOptionsError(
                    f"ticket keys cannot be shared here: TLS {version} does not resume"
                )

    def _proof(self, certificate: Certificate, version: str) -> Context:
        context = server_context(
            certificate,
            client=ClientCertificates(),
            alpn=(),
            versions=(version, version),
            ciphers="",
            key_log=None,
        )
        self.use_in(context)
        return context


def _resumed(servers: Sequence[Context]) -> bool:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    session: ssl.SSLSession | None = None
    reused = False
    for server in servers:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = server.wrap_bio(up, down, server_side=True)
        theirs = client.wrap_bio(down, up, session=session)
        for side in (theirs, ours, theirs, ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
        # With TLS 1.3 the ticket comes after the handshake: whoever reads takes it.
        ours.write(b"x")
        theirs.read(1)
        session = theirs.session
        reused = bool(ours.session_reused)
    return reused


@attrs.frozen(kw_only=True)
class Tickets:
    """Whether and how sessions can be resumed."""

    enabled: bool = True
    files: tuple[str, ...] = ()
    """Key files of KEY_BYTES random bytes each, at most MAX_KEY_FILES: the first seals, all open. Empty: keys that no
    other process knows."""

    def load(self, client: ClientCertificates) -> TicketKeys:
        """Read the files. Raises TlsOptionsError."""
        if not self.enabled:
            return TicketKeys(False)
        if not self.files:
            return TicketKeys(True, [os.urandom(KEY_BYTES)], shared=False)
        if len(self.files) > MAX_KEY_FILES:
            raise TlsOptionsError(f"{len(self.files)} files of ticket keys, limit {MAX_KEY_FILES}")
        salt = who_may_resume(client)
        return TicketKeys(True, [_derive(_read(name), salt) for name in self.files])


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            data = file.read(KEY_BYTES + 1)
    except OSError as exc:
        raise TlsOptionsError(f"{name}: {exc.strerror}") from exc
    if len(data) != KEY_BYTES:
        raise TlsOptionsError(f"{name}: a ticket key file has {KEY_BYTES} bytes exactly")
    return data


def who_may_resume(client: ClientCertificates) -> bytes:
    """Return a digest of what clients must show. Raises TlsOptionsError for a file that cannot be read."""
    # A resumed session brings its client along without asking for a certificate: so a ticket from a listener that
    # asked for less must not be good here (CVE-2025-23419 was that). Other rules, other keys.
    digest = hashlib.sha256(repr((client.mode, client.names)).encode())
    if client.mode != "none" and client.ca:
        try:
            digest.update(Path(client.ca).read_bytes())
        except OSError as exc:
            raise TlsOptionsError(f"{client.ca}: {exc.strerror}") from exc
    return digest.digest()


def _derive(data: bytes, salt: bytes) -> bytes:
    return b"".join(hmac.digest(data, salt + bytes((number,)), "sha256") for number in range(3))[
        :KEY_BYTES
    ]
