"""What a handshake established, for routes, filters and logs."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class TlsFacts:
    """One TLS session's facts; none changes while it lasts."""

    sni: str | None = None
    """The server name the client asked for, in lower case."""
    alpn: str | None = None
    """The application protocol agreed on (RFC 7301)."""
    version: str = ""
    """``TLSv1.2`` or ``TLSv1.3``."""
    cipher: str = ""
    """The cipher suite, by OpenSSL's name."""
    peer_identity: str | None = None
    """Of the peer's verified certificate: its first URI, else its first DNS name, else its common name."""
    resumed: bool = False
    """The session was resumed: no certificate was exchanged."""
