"""Addresses: where a socket is."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import attrs

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_DIGITS: Final = re.compile(r"[0-9.]+")


class NotAnAddress(ValueError):
    """The text is none; ``suggestion`` is what was probably meant, if that can be told."""

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.suggestion = suggestion


@attrs.frozen
class Address:
    """A TCP or Unix socket address."""

    host: str
    """IP address or DNS name; empty for a Unix socket."""
    port: int = 0
    """0 … 65535; 0 asks for a free port when listening."""
    path: str = ""
    """File system path of a Unix socket; empty for TCP."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``host:port``, ``[v6]:port`` or ``unix:/path``. Raises ValueError with what was expected."""
        if text.startswith("unix:"):
            path = text[5:]
            if not path:
                raise ValueError("a Unix address needs a path: unix:/run/x.sock")
            if "\0" in text:
                raise ValueError(f"{text!r}: no path has a NUL in it")
            return cls("", 0, path)
        url = _URL.fullmatch(text)
        if url is not None:
            raise _refuse_url(text, url[1].lower(), url[2])
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit():
            raise ValueError(f"{text!r} is not host:port, [ipv6]:port or unix:/path")
        if int(port) > 65535:
            raise ValueError(f"port {port} is above 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            ipaddress.IPv6Address(host.partition("%")[0])
        elif ":" in host:
            raise ValueError(f"write an IPv6 address in brackets: [{host}]:{port}")
        if not host:
            raise ValueError(f"{text!r} has no host (0.0.0.0 listens on every address)")
        if ":" not in host:
            _check_host(host)
        return cls(host, int(port))

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _refuse_url(text: str, scheme: str, rest: str) -> NotAnAddress:
    authority = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    if not re.search(r":[0-9]+$", authority):
        authority = f"{authority}:{_PORTS[scheme]}" if scheme in _PORTS else ""
    secure = " (and `tls: true` at the cluster)" if scheme in ("https", "wss") else ""
    try:
        suggestion = str(Address.parse(authority))
    except ValueError:
        suggestion = ""
    return NotAnAddress(f"{text!r} is a URL; an address is host:port{secure}", suggestion)


def _check_host(host: str) -> None:
    if _DIGITS.fullmatch(host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError as exc:
            raise ValueError(f"{host!r} is neither an IPv4 address nor a name: {exc}") from exc
    elif len(host) > 253 or _HOST.fullmatch(host) is None:
        raise ValueError(f"{host!r} is not the name of a host")
