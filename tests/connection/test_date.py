from __future__ import annotations

from email.utils import parsedate_to_datetime
from time import time

from xproxy.connection.date import http_date


def test_it_is_this_second_as_http_writes_it() -> None:
    before = int(time())
    text = http_date()
    assert before <= parsedate_to_datetime(text).timestamp() <= time()
    assert text.endswith(" GMT")
    assert len(text) == len("Sun, 06 Nov 1994 08:49:37 GMT")
