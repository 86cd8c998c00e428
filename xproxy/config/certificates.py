"""What is wrong with the files that a ``tls:`` mapping names: found by the check, not by the first handshake."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Final

from cattrs import Converter
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from xproxy.config.findings import Problem
from xproxy.config.kinds import unexpected
from xproxy.config.partial import UNREAD
from xproxy.model.limits import File

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
"""Longer files are refused: no bundle of authorities comes near it."""
TICKET_KEY_BYTES: Final = 80
"""Of a file of ticket keys (OpenSSL's ``SSL_CTX_set_tlsext_ticket_keys``: 16 of name, 32 of HMAC, 32 of AES)."""


def read(path: FilePath) -> bytes:
    """Return what a file holds. Raises Problem."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise Problem(f'"{path}" cannot be read: {getattr(exc, "strerror", exc)}') from exc
    if len(data) > MAX_FILE_BYTES:
        raise Problem(f'"{path}" is longer than {MAX_FILE_BYTES} bytes')
    return data


def certificates(path: FilePath) -> list[x509.Certificate]:
    """Return the certificates of a file, at least one. Raises Problem."""
    data = read(path)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as exc:
        raise Problem(f'"{path}" holds no certificates in PEM') from exc


def private_key(path: FilePath) -> PrivateKeyTypes:
    """Return the key of a file. Raises Problem."""
    data = read(path)
    try:
        return load_pem_private_key(data, None)
    except TypeError as exc:
        raise Problem(f'"{path}" is encrypted: nobody is there to type a password') from exc
    except ValueError as exc:
        raise Problem(f'"{path}" holds no private key in PEM') from exc


def ticket_key(path: FilePath) -> None:
    """Check a file of ticket keys. Raises Problem."""
    size = len(read(path))
    if size != TICKET_KEY_BYTES:
        raise Problem(f'"{path}" has {size} bytes, expected {TICKET_KEY_BYTES} random ones')


def mismatches(cert: FilePath, key: FilePath) -> Iterator[Problem]:
    """Check a certificate and its key, with ``cert`` and ``key`` as paths. What could not be read is passed over."""
    found: list[bytes] = []
    for name, path in (("cert", cert), ("key", key)):
        if path is UNREAD:
            continue
        try:
            public = (
                certificates(path)[0].public_key()
                if name == "cert"
                else private_key(path).public_key()
            )
        except Problem as problem:
            problem.at = (name,)
            yield problem
        else:
            found.append(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    if len(found) == 2 and found[0] != found[1]:
        one, other = (key, cert) if cert.parent != key.parent else (key.name, cert.name)
        yield Problem(f'"{one}" is not the key of the certificate "{other}"', at=("key",))


def validity(path: FilePath, now: datetime.datetime) -> str:
    """Say why the first certificate of a file is not valid at ``now``; empty if it is, or cannot be read."""
    try:
        certificate = certificates(path)[0]
    except Problem:
        return ""
    if certificate.not_valid_after_utc < now:
        return f"the certificate has expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if certificate.not_valid_before_utc > now:
        return f"the certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
    return ""


def names_missing(path: FilePath) -> str:
    """Say so if the first certificate of a file has no name that a client could verify it by; else empty."""
    try:
        certificates(path)[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return "the certificate has no subject alternative name: clients refuse it, whatever its common name is"
    except (Problem, ValueError):
        return ""
    return ""


def register_files(converter: Converter, base: FilePath) -> None:
    """Teach ``converter`` to find files relative to ``base``."""

    def structure(value: object, _: object) -> FilePath:
        if not isinstance(value, str):
            raise unexpected(File, value)
        return base / value

    converter.register_structure_hook_func(lambda t: t is File, structure)
