"""What a peer can do wrong. None of these leaves the codec: they become frames and bytes."""

from __future__ import annotations

from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.table import Field, Table


class ConnectionFault(Exception):
    """The connection cannot go on (RFC 9113 §5.4.1): becomes a Violation with a GOAWAY."""

    def __init__(self, code: ErrorCode, detail: str, limit: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.limit = limit
        """The option, or the listener's limit, that the peer exceeded; empty: it did something else."""


def protocol_error(detail: str) -> ConnectionFault:
    """Return the fault that most frames in the wrong place are."""
    return ConnectionFault(ErrorCode.PROTOCOL_ERROR, detail)


class StreamFault(Exception):
    """One stream cannot go on (RFC 9113 §5.4.2): becomes a Reset, and RST_STREAM for the peer."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Oversized(Exception):
    """A header list above its bound, which was read to its end: the table is as its sender has it."""

    def __init__(self, fields: list[Field], table: Table) -> None:
        super().__init__("header list above its bound")
        self.fields = fields
        """Those within the bound, and what says which dialect of a call it is."""
        self.table = table


class Malformed(Exception):
    """A header block that was decompressed, but is no message (RFC 9113 §8.1.1).

    ``answer`` is the HTTP status a server may answer it with; 0: reset the stream without one. ``dialect`` is that of
    a call, whose caller understands another answer; empty: it is none.
    """

    def __init__(self, detail: str, answer: int = 0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.answer = answer
        self.dialect = ""
