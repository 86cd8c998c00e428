"""Checks of ``tls:`` mappings: files that must hold what they are named for, and keys that need one another."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path as FilePath
from typing import Final

from xproxy.config.certificates import (
    certificates,
    mismatches,
    names_missing,
    ticket_key,
    validity,
)
from xproxy.config.findings import Path, Problem, show, under
from xproxy.config.partial import UNREAD, parts
from xproxy.config.schema import Config, EndpointConfig, ListenerConfig
from xproxy.config.tls import ClientCertificatesConfig, ClusterTlsConfig, ListenerTlsConfig
from xproxy.model.address import Address
from xproxy.transport.tls.tickets import MAX_KEY_FILES

_NAME: Final = re.compile(
    r"(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*"
)
"""A host name in lower case, its first label possibly a wildcard."""


def listener_tls(tls: ListenerTlsConfig) -> Iterator[Problem]:
    """Check the TLS of a listener, its files included."""
    ended, clients = bool(tls.certificates), tls.client_certificates
    if not ended and not tls.passthrough:
        yield Problem("needs certificates, or names to pass through")
    for index, one in parts(tls.certificates):
        yield from under(("certificates", index), mismatches(one.cert, one.key))
    for index, name in parts(tls.passthrough):
        yield from under(("passthrough", index), _pattern(name))
    if not ended and clients is not None:
        yield Problem(
            "clients can only be asked for certificates where there is a certificate of ours",
            at=("client_certificates",),
        )
    if isinstance(clients, ClientCertificatesConfig):
        yield from under(("client_certificates", "ca"), _read(certificates, clients.ca))
        if clients.mode == "require" and tls.mode == "permissive":
            yield Problem(
                "clients must show a certificate, and plaintext has none: leave `mode` out, or write strict",
                at=("mode",),
                suggestion="strict",
            )
    if tls.tickets is False and tls.ticket_keys:
        yield Problem("tickets are switched off: there is nothing to encrypt", at=("ticket_keys",))
    if tls.ticket_keys is not UNREAD and len(tls.ticket_keys) > MAX_KEY_FILES:
        message = f"{len(tls.ticket_keys)} files, limit {MAX_KEY_FILES}"
        yield Problem(message, at=("ticket_keys",))
    for index, file in parts(tls.ticket_keys):
        yield from under(("ticket_keys", index), _read(ticket_key, file))
    yield from _versions(tls)


def cluster_tls(tls: ClusterTlsConfig) -> Iterator[Problem]:
    """Check the TLS of a cluster, its files included."""
    for one, other in (("cert", "key"), ("key", "cert")):
        if getattr(tls, one) is not None and getattr(tls, other) is None:
            yield Problem(f"needs `{other}` beside it", at=(one,))
    if tls.cert is not None and tls.key is not None:
        yield from mismatches(tls.cert, tls.key)
    yield from under(("ca",), _read(certificates, tls.ca))
    if isinstance(tls.sni, str) and (_NAME.fullmatch(tls.sni) is None or tls.sni.startswith("*")):
        yield Problem(f"{show(tls.sni)} is not a host name in lower case", at=("sni",))
    if tls.verify is False:
        for key in ("ca", "sans"):
            if getattr(tls, key):
                yield Problem("is not looked at with verify: false", at=(key,))
    yield from _versions(tls)


def nameless(tls: ClusterTlsConfig, endpoints: Sequence[EndpointConfig]) -> Iterator[Problem]:
    """Check that a cluster's endpoints have a name to verify their certificates by. Paths begin at the cluster."""
    if tls.verify is False or tls.sni or tls.sans:
        return
    for _, endpoint in parts(endpoints):
        if isinstance(endpoint.address, Address) and endpoint.address.is_unix:
            yield Problem(
                f"needs `sni` or `sans`: {show(str(endpoint.address))} has no name to verify a certificate by",
                at=("tls",),
            )


def _read(check: Callable[[FilePath], object], path: FilePath | None) -> Iterator[Problem]:
    if isinstance(path, FilePath):
        try:
            check(path)
        except Problem as problem:
            yield problem


def _pattern(text: str) -> Iterator[Problem]:
    if text != "*" and _NAME.fullmatch(text) is None:
        lower = text.lower().rstrip(".")
        yield Problem(
            f"{show(text)} is not a server name; expected a host name in lower case, *.suffix or *",
            suggestion=lower if _NAME.fullmatch(lower) else "",
        )


def _versions(tls: ListenerTlsConfig | ClusterTlsConfig) -> Iterator[Problem]:
    if tls.min_version == "TLSv1.3" and tls.max_version == "TLSv1.2":
        yield Problem("min_version is above max_version", at=("min_version",))


def _unchecked(index: int, listener: ListenerConfig) -> Iterator[tuple[Path, str]]:
    # Not an error: whoever ends that TLS may ask for certificates itself.
    tls = listener.tls
    if tls is None or tls.client_certificates is None or not tls.passthrough:
        return
    if tls.client_certificates.mode == "require":
        yield (
            ("listeners", index, "tls", "passthrough"),
            "clients that ask for these names are passed through without showing us a certificate",
        )


def tls_oddities(config: Config) -> Iterator[tuple[Path, str]]:
    """Give what is allowed but hardly meant, with its path."""
    now = datetime.datetime.now(datetime.UTC)
    for index, listener in enumerate(config.listeners):
        yield from _unchecked(index, listener)
        for place, one in enumerate(listener.tls.certificates if listener.tls else ()):
            if wrong := validity(one.cert, now):
                yield ("listeners", index, "tls", "certificates", place, "cert"), wrong
            if wrong := names_missing(one.cert):
                yield ("listeners", index, "tls", "certificates", place, "cert"), wrong
    for name, cluster in config.clusters.items():
        tls = cluster.tls
        if tls is not None and not tls.verify:
            yield (
                ("clusters", name, "tls", "verify"),
                "whoever answers at the endpoint's address is taken for it",
            )
        if tls is not None and tls.cert is not None and (wrong := validity(tls.cert, now)):
            yield ("clusters", name, "tls", "cert"), wrong
