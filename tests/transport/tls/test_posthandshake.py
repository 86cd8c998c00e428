from __future__ import annotations

import pytest

from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.posthandshake import MAX_MESSAGE_BYTES, PostHandshake

ASKING = b"\x18\0\0\1\1"
SILENT = b"\x18\0\0\1\0"
TICKET = b"\4\0\0\5abcde"


@pytest.mark.parametrize(
    ("content", "updates", "owes"),
    [
        (SILENT, 1, False),
        (ASKING, 1, True),
        (TICKET, 0, False),
        (TICKET + TICKET, 0, False),
        (TICKET + ASKING, 1, True),
    ],
)
def test_messages_in_any_pieces(content: bytes, updates: int, owes: bool) -> None:
    for size in (len(content), 1, 2, 3):
        messages = PostHandshake()
        pieces = [content[at : at + size] for at in range(0, len(content), size)]
        assert sum(messages.updates_in(piece) for piece in pieces) == updates
        assert messages.owes_update is owes
        assert messages.partial == b""


@pytest.mark.parametrize(
    ("content", "alert"),
    [
        (b"\x18\0\0\1\2", Alert.ILLEGAL_PARAMETER),
        (b"\x18\0\0\2\0\0", Alert.ILLEGAL_PARAMETER),
        (SILENT + SILENT, Alert.UNEXPECTED_MESSAGE),
        (SILENT + b"\4", Alert.UNEXPECTED_MESSAGE),
        (b"\1\0\0\0", Alert.UNEXPECTED_MESSAGE),
        (b"\4" + MAX_MESSAGE_BYTES.to_bytes(3, "big"), Alert.ILLEGAL_PARAMETER),
    ],
)
def test_what_may_not_come(content: bytes, alert: Alert) -> None:
    with pytest.raises(TlsError) as caught:
        PostHandshake().updates_in(content)
    assert caught.value.alert is alert
