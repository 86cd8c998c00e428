"""HTTP/1.1 has HTTP's codes."""

from __future__ import annotations

from xproxy.codecs import http_status
from xproxy.codecs.http1 import status


def test_the_codes_are_those_of_every_version() -> None:
    for name in status.__all__:
        assert getattr(status, name) is getattr(http_status, name)
