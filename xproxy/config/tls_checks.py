"""Checks of ``tls:`` mappings: files that must hold what they are named for, and keys that need one another."""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Final, TypeVar

from xproxy.config.certificates import (
    certificates,
    mismatches,
    names_missing,
    ticket_key,
    validity,
)
from xproxy.config.findings import Path, Problem, show
from xproxy.config.schema import Config, ListenerConfig
from xproxy.config.structure import ClassCheck, FieldCheck
from xproxy.config.tls import (
    CertificateConfig,
    ClientCertificatesConfig,
    ClusterTlsConfig,
    ListenerTlsConfig,
)

T = TypeVar("T")

_NAME: Final = re.compile(
    r"(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*"
)
"""A host name in lower case, its first label possibly a wildcard."""


def tls_field_checks() -> Mapping[tuple[type, str], FieldCheck]:
    """Return the checks of single fields."""
    return {
        (ListenerTlsConfig, "passthrough"): _names,
        (ListenerTlsConfig, "ticket_keys"): functools.partial(_each, ticket_key),
        (ClientCertificatesConfig, "ca"): _authorities,
        (ClusterTlsConfig, "ca"): _authorities,
        (ClusterTlsConfig, "sni"): _name,
    }


def tls_class_checks(base: FilePath) -> Mapping[type, ClassCheck]:
    """Return the checks of whole mappings; relative paths begin in ``base``."""
    return {
        CertificateConfig: functools.partial(mismatches, base),
        ListenerTlsConfig: _listener,
        ClusterTlsConfig: functools.partial(_cluster, base),
    }


def _each(check: Callable[[T], object], values: Sequence[T]) -> None:
    found: list[Problem] = []
    for index, value in enumerate(values):
        try:
            check(value)
        except Problem as problem:
            problem.at = (index, *problem.at)
            found.append(problem)
    if found:
        raise ExceptionGroup("several", found)


def _authorities(path: FilePath | None) -> None:
    if path is not None:
        certificates(path)


def _names(patterns: Sequence[str]) -> None:
    _each(_pattern, patterns)


def _pattern(text: str) -> None:
    if text != "*" and _NAME.fullmatch(text) is None:
        lower = text.lower().rstrip(".")
        raise Problem(
            f"{show(text)} is not a server name; expected a host name in lower case, *.suffix or *",
            suggestion=lower if _NAME.fullmatch(lower) else "",
        )


def _name(text: str | None) -> None:
    if text is not None and (_NAME.fullmatch(text) is None or text.startswith("*")):
        raise Problem(f"{show(text)} is not a host name in lower case")


def _listener(value: Mapping[str, object]) -> Iterator[Problem]:
    ended = bool(value.get("certificates"))
    if not ended and not value.get("passthrough"):
        yield Problem("needs certificates, or names to pass through")
    if not ended and value.get("client_certificates") is not None:
        yield Problem(
            "clients can only be asked for certificates where there is a certificate of ours",
            at=("client_certificates",),
        )
    clients = value.get("client_certificates")
    if (
        isinstance(clients, dict)
        and clients.get("mode") == "require"
        and value.get("mode") == "permissive"
    ):
        yield Problem(
            "clients must show a certificate, and plaintext has none: leave `mode` out, or write strict",
            at=("mode",),
            suggestion="strict",
        )
    if value.get("tickets") is False and value.get("ticket_keys"):
        yield Problem("tickets are switched off: there is nothing to encrypt", at=("ticket_keys",))
    yield from _versions(value)


def _cluster(base: FilePath, value: Mapping[str, object]) -> Iterator[Problem]:
    for one, other in (("cert", "key"), ("key", "cert")):
        if value.get(one) is not None and value.get(other) is None:
            yield Problem(f"needs `{other}` beside it", at=(one,))
    if value.get("cert") is not None and value.get("key") is not None:
        yield from mismatches(base, value)
    if value.get("verify") is False:
        for key in ("ca", "sans"):
            if value.get(key):
                yield Problem("is not looked at with verify: false", at=(key,))
    yield from _versions(value)


def _versions(value: Mapping[str, object]) -> Iterator[Problem]:
    if value.get("min_version") == "TLSv1.3" and value.get("max_version") == "TLSv1.2":
        yield Problem("min_version is above max_version", at=("min_version",))


def nameless(cluster: Mapping[str, object]) -> Iterator[Problem]:
    """Check that a cluster's endpoints have a name to verify their certificates by."""
    tls, endpoints = cluster.get("tls"), cluster.get("endpoints")
    options = tls if isinstance(tls, dict) else {}
    if not tls or options.get("verify") is False or options.get("sni") or options.get("sans"):
        return
    for endpoint in endpoints if isinstance(endpoints, list) else ():
        address = endpoint.get("address") if isinstance(endpoint, dict) else endpoint
        if isinstance(address, str) and address.startswith("unix:"):
            yield Problem(
                f"needs `sni` or `sans`: {show(address)} has no name to verify a certificate by",
                at=("tls",),
            )


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
