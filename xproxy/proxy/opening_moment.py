"""A connection whose protocol is not known yet, written down: its bytes and its times, as nothing was decided.

Whoever goes on with it finds out from the first byte on, and comes to where it was. Where TLS is ended already, from
the first byte inside.
"""

from __future__ import annotations

import math
import socket

import attrs

from xproxy.transport.proxy_protocol import V2_MAX, ProxyHeader, ProxyHeaderError, parse
from xproxy.transport.tls.stream import check as check_tls


@attrs.frozen(kw_only=True)
class OpeningMoment:
    """An opening as it stood when it was frozen. Times are durations: clocks do not go along."""

    prefix: bytes = b""
    """What was read and not made sense of: inside TLS, if that is ended."""
    header: bytes = b""
    """The PROXY header as it came; empty: none did."""
    claims: bool = False
    """Whoever accepted it expects one: what has come may be a part of it, or nothing of it."""
    stream: bytes = b""
    """What is kept of TLS, its facts included; empty: it is not ended here, or not yet."""
    left: float = math.inf
    """Seconds left of the step it was in (``timeouts.detect``); infinite: any number."""
    patience: float = math.inf
    """Seconds left in which a byte is waited for before the client counts as silent; infinite: any number."""
    waited: float = 0.0
    """Seconds since the first byte of ``prefix``."""
    sock: socket.socket | None = attrs.field(default=None, eq=False)
    """What is given along with it; None in the process that has got it."""

    def check(self) -> None:
        """Raise ValueError unless an opening can go on from here, whoever wrote it. Changes nothing."""
        self.parsed_header()
        if self.stream:
            check_tls(self.stream)
        for name in ("left", "patience", "waited"):
            seconds = getattr(self, name)
            if type(seconds) is not float or math.isnan(seconds):
                raise ValueError(f"an opening with {name}, which is no number of seconds")

    def parsed_header(self) -> ProxyHeader | None:
        """Return what the PROXY header said. Raises ValueError for what is none, or more than one."""
        if not self.header:
            return None
        try:
            found = parse(self.header[: V2_MAX + 1])
        except ProxyHeaderError as exc:
            raise ValueError(f"an opening with a false PROXY header: {exc}") from exc
        if found is None or found.length != len(self.header):
            raise ValueError("an opening with half a PROXY header, or with more than one")
        return found
