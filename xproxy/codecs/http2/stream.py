"""A stream that is open in at least one direction."""

from __future__ import annotations

from xproxy.codecs.http2.state import State


class Stream:
    """What is known of a stream: its state, how far the messages on it are, and its windows."""

    __slots__ = (
        "call",
        "connect",
        "expected",
        "grown",
        "headed",
        "inbound",
        "muted",
        "opened",
        "outbound",
        "owed",
        "owing",
        "spoken",
        "state",
        "unanswered",
        "unconsumed",
        "upgrade",
        "web_call",
    )

    def __init__(self, state: State) -> None:
        self.state = state
        """OPEN, or half-closed either way; what it is else, ``Streams`` knows."""
        self.headed = False
        """The peer's head is here, and it was not an interim one."""
        self.spoken = False
        """Our head is out, and it was not an interim one."""
        self.muted = False
        """Our body is dropped: the method is HEAD, or our status code forbids one (server only)."""
        self.unanswered = False
        """The response can have no body: the method is HEAD (client only)."""
        self.connect = False
        """The method is CONNECT."""
        self.upgrade = False
        """It is CONNECT for a protocol (RFC 8441): what grants it is 200 on the wire, and 101 elsewhere."""
        self.call = False
        """The request is a call (gRPC): its outcome is told in fields of its own."""
        self.web_call = False
        """It is one in the dialect of browsers (server only)."""
        self.expected = -1
        """Body bytes that the peer declared and did not send yet; -1: it declared nothing."""
        self.owing = -1
        """Body bytes that our head declared and we did not send yet; -1: nothing declared."""
        self.inbound = 0
        """Bytes that the peer may send, less the initial window we announced."""
        self.outbound = 0
        """Bytes that we may send, less the initial window the peer announced."""
        self.grown = 0
        """Bytes by which its window for the peer is larger than at first."""
        self.owed = 0
        """Bytes consumed for which the stream got no credit yet."""
        self.opened = 0
        """When the peer opened it, in ``Guard.now``'s milliseconds (server only)."""
        self.unconsumed = 0
        """Body bytes delivered that nobody has consumed yet."""
