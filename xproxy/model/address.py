"""Addresses: where a socket is."""

from __future__ import annotations

import ipaddress

import attrs


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
            return cls("", 0, path)
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
        return cls(host, int(port))

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
