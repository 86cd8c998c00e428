"""Who the peer is, by its verified certificate."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from xproxy.transport.tls.alerts import Alert, TlsError

_KINDS: Final = ("URI", "DNS", "IP Address", "email")


def names_of(ssl_object: ssl.SSLObject) -> tuple[list[tuple[str, str]], str | None]:
    """Return the subject alternative names of the peer's certificate, as kind and name, and its common name."""
    certificate = ssl_object.getpeercert()
    if not certificate:
        return [], None
    found = [
        (str(pair[0]), _plain(str(pair[0]), str(pair[1])))
        for pair in certificate.get("subjectAltName", ())
        if isinstance(pair, tuple) and pair[0] in _KINDS
    ]
    common: str | None = None
    for attribute in certificate.get("subject", ()):
        for pair in attribute:
            if isinstance(pair, tuple) and pair[0] == "commonName":
                common = str(pair[1])
    return found, common


def _plain(kind: str, name: str) -> str:
    # OpenSSL writes out each group of an IPv6 address; nobody else does.
    if kind != "IP Address":
        return name
    try:
        return str(ip_address(name.strip()))
    except ValueError:
        return name


def identity_of(names: Sequence[tuple[str, str]], common_name: str | None) -> str | None:
    """Return the first URI, else the first DNS name, else the common name."""
    for wanted in ("URI", "DNS"):
        for kind, name in names:
            if kind == wanted:
                return name
    return common_name


class SanPatterns:
    """Names of which a peer must have one: exact, or with ``*`` for what lies between two dots or two slashes.

    A ``*`` at the end of a pattern with a scheme (``spiffe://cluster.local/ns/shop/*``) stands for any rest.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = tuple(patterns)
        self._compiled = [_compiled(pattern) for pattern in patterns]

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def matches(self, names: Sequence[tuple[str, str]]) -> bool:
        """Tell whether one of ``names`` is meant."""
        return any(
            pattern.fullmatch(name if kind == "URI" else name.lower())
            for kind, name in names
            for pattern in self._compiled
        )


def _compiled(pattern: str) -> re.Pattern[str]:
    uri = "://" in pattern
    text = pattern if uri else pattern.lower()
    rest = uri and text.endswith("*")
    # No label of a DNS name has these: an e-mail address or a URI is not taken for one.
    inner = r"[^./]+" if uri else r"[^./:@]+"
    parts = (text[:-1] if rest else text).split("*")
    return re.compile(inner.join(re.escape(part) for part in parts) + (".+" if rest else ""))


def check(names: Sequence[tuple[str, str]], patterns: SanPatterns, alert: Alert) -> None:
    """Raise TlsError with ``alert`` unless the peer has one of the names wanted, or none is wanted."""
    if patterns and not patterns.matches(names):
        raise TlsError("the peer's certificate has none of the names wanted here", alert)
