"""Contexts of the standard library's ``ssl``, from files and plain values."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import attrs
from cryptography import x509

from xproxy.model.errors import XproxyError
from xproxy.transport.tls.keylog import KeyLog
from xproxy.transport.tls.libssl import Context

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption, nothing else (RFC 9325 §4.2). TLS 1.3 has no others."""

VERSIONS: Final[Mapping[str, ssl.TLSVersion]] = {
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}


class TlsOptionsError(XproxyError):
    """TLS cannot be set up as asked; names the file or the option."""


@attrs.frozen
class Certificate:
    """A certificate with its key, for the server names it serves."""

    cert: str
    """PEM file: the certificate, then those that lead to its authority."""
    key: str
    """PEM file, without passphrase."""
    names: tuple[str, ...] = ()
    """Server names it serves; empty: those in it (DNS names, or its common name if it has none)."""

    def server_names(self) -> tuple[str, ...]:
        """Return the names. Raises TlsOptionsError."""
        if self.names:
            return self.names
        try:
            leaf = x509.load_pem_x509_certificates(Path(self.cert).read_bytes())[0]
        except (OSError, ValueError) as exc:
            raise TlsOptionsError(f"{self.cert}: {_why(exc)}") from exc
        try:
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            common = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            return tuple(str(attribute.value) for attribute in common)
        except ValueError as exc:
            raise TlsOptionsError(f"{self.cert}: {exc}") from exc
        return tuple(names.get_values_for_type(x509.DNSName))


@attrs.frozen(kw_only=True)
class ClientCertificates:
    """What a listener asks of its clients."""

    mode: Literal["none", "request", "require"] = "none"
    """``request``: a client without one is served too, a wrong one is refused."""
    ca: str = ""
    """PEM file of the authorities that sign clients; needed unless ``mode`` is none."""
    names: tuple[str, ...] = ()
    """Patterns of which a client's certificate must have one name (``peers.SanPatterns``); empty: any."""


def _why(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        reason: str | None = getattr(exc, "reason", None)  # missing where Python itself complains
        return reason.replace("_", " ").lower() if reason else str(exc.args[-1])
    if isinstance(exc, OSError):
        return exc.strerror or str(exc)
    return str(exc)


def signature(files: Sequence[str]) -> object:
    """Return what changes when one of the files does: time, size, inode; or that it cannot be looked at."""
    found: list[object] = []
    for name in files:
        try:
            status = os.stat(name)
        except OSError as exc:
            found.append(exc.errno)
        else:
            found.append((status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev))
    return found


def _common(context: Context, versions: tuple[str, str], key_log: KeyLog | None) -> None:
    low, high = versions
    try:
        context.minimum_version, context.maximum_version = VERSIONS[low], VERSIONS[high]
    except KeyError as exc:
        raise TlsOptionsError(f"TLS version {exc.args[0]!r}, allowed: 1.2, 1.3") from exc
    if low > high:
        raise TlsOptionsError(f"TLS version at least {low} and at most {high}")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if key_log is not None:
        key_log.use_in(context)


def _ciphers(context: ssl.SSLContext, ciphers: str) -> None:
    try:
        context.set_ciphers(ciphers or CIPHERS)
    except ssl.SSLError as exc:
        raise TlsOptionsError(f"ciphers {ciphers!r}: {_why(exc)}") from exc


def _chain(context: ssl.SSLContext, cert: str, key: str) -> None:
    for name in (cert, key):
        try:
            Path(name).read_bytes()
        except OSError as exc:
            raise TlsOptionsError(f"{name}: {exc.strerror}") from exc
    try:
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(cert, key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as exc:
        raise TlsOptionsError(f"{cert} with {key}: {_why(exc)}") from exc


def _no_password() -> str:
    raise ValueError("the key has a passphrase, which cannot be asked for")


def _authorities(context: ssl.SSLContext, ca: str) -> None:
    try:
        context.load_verify_locations(cafile=ca)
    except (ssl.SSLError, OSError) as exc:
        raise TlsOptionsError(f"{ca}: {_why(exc)}") from exc


def server_context(
    certificate: Certificate,
    *,
    client: ClientCertificates,
    alpn: Sequence[str],
    versions: tuple[str, str],
    ciphers: str,
    key_log: KeyLog | None,
) -> Context:
    """Return the context for one certificate. Raises TlsOptionsError."""
    context = Context(ssl.PROTOCOL_TLS_SERVER)
    _common(context, versions, key_log)
    _ciphers(context, ciphers)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_SINGLE_ECDH_USE
    _chain(context, certificate.cert, certificate.key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if client.mode != "none":
        if not client.ca:
            raise TlsOptionsError(
                "client certificates are asked for, but no ca says who signs them"
            )
        _authorities(context, client.ca)
        context.verify_mode = ssl.CERT_REQUIRED if client.mode == "require" else ssl.CERT_OPTIONAL
    return context


def client_context(
    *,
    ca: str,
    verify: bool,
    check_name: bool,
    certificate: tuple[str, str] | None,
    alpn: Sequence[str],
    versions: tuple[str, str],
    ciphers: str,
    key_log: KeyLog | None,
) -> Context:
    """Return the context for connections to an upstream. Raises TlsOptionsError."""
    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    _common(context, versions, key_log)
    _ciphers(context, ciphers)
    context.check_hostname = verify and check_name
    # A name is a subject alternative name, or none (RFC 9525 §6.3): a common name may be anything.
    context.hostname_checks_common_name = False
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    elif ca:
        _authorities(context, ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if certificate is not None:
        _chain(context, *certificate)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
