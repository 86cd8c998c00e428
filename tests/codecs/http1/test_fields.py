"""What Connection may not take away."""

from __future__ import annotations

from xproxy.codecs.http1.fields import NOT_REMOVABLE
from xproxy.codecs.http_fields import KINDS, PLAIN


def test_framing_and_host_cannot_be_removed() -> None:
    assert {"host", "content-length", "transfer-encoding"} <= NOT_REMOVABLE
    assert not [name for name in NOT_REMOVABLE - {"", "close"} if KINDS[name] == PLAIN]
