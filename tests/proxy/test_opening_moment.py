"""What is written down of an opening: refused where no opening can go on from it, whoever wrote it."""

from __future__ import annotations

import math
import struct

import pytest

from tests.transport.tls.kit import SUITES, movable_pair
from xproxy.proxy.opening_moment import OpeningMoment
from xproxy.transport.proxy_protocol import V2_SIGNATURE

V1 = b"PROXY TCP4 198.51.100.1 198.51.100.2 1111 2222\r\n"
V2 = V2_SIGNATURE + b"\x20\x00" + struct.pack("!H", 0)


@pytest.mark.parametrize("header", [b"", V1, V2])
def test_what_an_opening_wrote_is_taken(header: bytes) -> None:
    moment = OpeningMoment(prefix=b"GE", header=header, left=1.5, waited=0.25)
    moment.check()
    found = moment.parsed_header()
    assert (found.length if found is not None else 0) == len(header)


@pytest.mark.parametrize(
    "header", [V1[:-1], V1 + b"G", V2[:15], V2 + V2, b"GET / HTTP/1.1\r\n", b"\0", b"PROXY X\r\n"]
)
def test_a_header_that_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match="PROXY header"):
        OpeningMoment(header=header).check()


@pytest.mark.parametrize("name", ["left", "patience", "waited"])
@pytest.mark.parametrize("seconds", [math.nan, "1", None, 1])
def test_a_time_that_is_none_is_refused(name: str, seconds: object) -> None:
    moment = OpeningMoment(**{name: seconds})  # type: ignore[arg-type]  # from who says anything
    with pytest.raises(ValueError, match=name):
        moment.check()


@pytest.mark.parametrize("suite", [SUITES[0], SUITES[-1]])
async def test_a_session_that_cannot_be_continued_is_refused(suite: str) -> None:
    async with movable_pair(suite) as (stream, _, _):
        state = stream.export()
    OpeningMoment(stream=state).check()
    for wrong in (state[:-1], state + b"\0", b"\xc1", state[:20]):
        with pytest.raises(ValueError, match="tls"):
            OpeningMoment(stream=wrong).check()
