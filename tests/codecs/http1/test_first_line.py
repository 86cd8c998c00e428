"""A request line is one as a whole; what is like one is answered as one; other protocols' lines are theirs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.effort import rounds
from xproxy.codecs.api import VerdictKind
from xproxy.codecs.http1.first_line import judge
from xproxy.codecs.http1.plugin import PLUGIN
from xproxy.model.frames import Violation
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role
from xproxy.testing.traffic import violations_in

GOOD = [
    b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"GET http://a/ HTTP/1.1\r\n",
    b"GET HTTPS://a HTTP/1.1\r\n",
    b"CONNECT 192.0.2.1:443 HTTP/1.1\r\n",
    b"CONNECT [::1]:443 HTTP/1.1\r\n",
    b"PROPFIND /a?b=c%20d HTTP/1.1\r\n",
    b"PRINT /a HTTP/1.1\r\n",
    b"\r\nGET / HTTP/1.1\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\n",
    b"A" * 32 + b" / HTTP/1.1\r\n",
]
LIKE = [
    b"get / HTTP/1.1\r\n",
    b"Get /admin HTTP/1.1\r\n",
    b"GET  / HTTP/1.1\r\n",
    b"GET\t/ HTTP/1.1\r\n",
    b"GET / HTTP/1.1 \r\n",
    b"GET /a b HTTP/1.1\r\n",
    b" GET / HTTP/1.1\r\n",
    b"\nGET / HTTP/1.1\r\n",
    b"\rGET / HTTP/1.1\r\n",
    b"\r\n\r\n\r\nGET / HTTP/1.1\r\n",
    b"GET / HTTP/1.1\n",
    b"GET / HTTP/1.1\rX\n",
    b"GET / http/1.1\r\n",
    b"GET /admin?\x01 HTTP/1.1\r\n",
    b"GET /admin\0HTTP/1.1\r\n",
    b"FOO /\x7f HTTP/1.1\r\n",
    b" " * 257 + b"GET / HTTP/1.1\r\n",
    b"\r\n" * 129 + b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/1.x\r\n",
    b"GET / HTTP/2.0\r\n",
    b"GET / HTTP\r\n",
    b"GET /admin\r\n",  # HTTP/0.9
    b"GET /admin FOO\r\n",
    b"GET name HTTP/1.1\r\n",
    b"M-SEARCH * HTTP/1.1\r\n",
    b"CONNECT / HTTP/1.1\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
]
OTHERS = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PRI / HTTP/1.1\r\n",
    b"OPTIONS sip:a@b SIP/2.0\r\n",
    b"INVITE sip:a@b SIP/2.0\r\n",
    b"OPTIONS * RTSP/1.0\r\n",
    b"DESCRIBE rtsp://a/b RTSP/1.0\r\n",
    b"OPTIONS icap://a/b ICAP/1.0\r\n",
    b"GET /a RTSP/1.0\r\n",
    b"GET key\r\n",
    b"GET\r\n",
    b"PING\r\n",
    b"EHLO mail.a.test\r\n",
    b"HELO mail.a.test\r\n",
    b"NICK me\r\n",
    b"CONNECT\nhost:a\n\n\0",
    b'CONNECT {"verbose":false}\r\n',
    b"\r\n\r\n\0\r\nQUIT\n",
    b"A" * 33 + b" / HTTP/1.1\r\n",
    b"<GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x00\x05\x01",
    b'[1,"',
]


def kinds(wire: bytes) -> list[VerdictKind]:
    found = [judge(wire[:size]).kind for size in range(len(wire) + 1)]
    first = next(size for size, kind in enumerate(found) if kind is not VerdictKind.MORE)
    assert set(found[first:]) == {found[first]}, "it stays"
    return found


@pytest.mark.parametrize("wire", GOOD)
def test_a_request_line_is_recognised_at_its_end(wire: bytes) -> None:
    assert kinds(wire) == [VerdictKind.MORE] * len(wire) + [VerdictKind.YES]
    assert kinds(wire + b"Host: a\r\n\r\n")[-1] is VerdictKind.YES


@pytest.mark.parametrize("wire", LIKE)
def test_what_is_like_http_is_answered_as_http(wire: bytes) -> None:
    assert kinds(wire)[-1] is VerdictKind.MAYBE


@pytest.mark.parametrize("wire", OTHERS)
def test_others_are_not_taken(wire: bytes) -> None:
    assert kinds(wire)[-1] is VerdictKind.NO


@pytest.mark.parametrize(
    ("wire", "faint"),
    [
        (b"\r\n", True),
        (b"G", True),
        (b"GET", True),
        (b"GET ", False),
        (b"GET /admin", False),
        (b"GET / HTT", False),
        (b"GET / HTTP/1.1", False),
        (b"GET / HTTP/1.1\r", False),
        (b"GET key", True),
        (b"GET http:", False),
        (b"OPTIONS *", False),
        (b"OPTIONS sip:", True),
        (b"OPTIONS * SIP", True),
        (b"CONNECT a.test:4", False),
        (b"CONNECT {", True),
        (b"FOO /", True),
        (b"FOO / HTTP/1.1", False),  # whole, if nothing follows
        (b" GET a HTTP/1.0\r", False),
        (b"\r\n\r\nPOST /", False),
    ],
)
def test_what_only_http_can_mean_is_not_faint(wire: bytes, faint: bool) -> None:
    verdict = judge(wire)
    assert (verdict.kind, verdict.faint) == (VerdictKind.MORE, faint)
    assert verdict.at_least == len(wire) + 1


@pytest.mark.parametrize(
    "blank", [bytes((byte,)) for byte in b"\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0"]
)
@pytest.mark.parametrize(
    "wire", [b"%bGET /a HTTP/1.1\n", b"GET%b/a HTTP/1.1\n", b"FOO%b/a%bHTTP/1.1\n"]
)
def test_no_white_space_hides_a_request(wire: bytes, blank: bytes) -> None:
    # str.split() of http.server splits at all of these.
    assert kinds(wire.replace(b"%b", blank))[-1] is VerdictKind.MAYBE


@pytest.mark.parametrize(
    "wire",
    [
        b"GET " + b"a" * 1024,
        b"GET " + b" " * 1024,
        b"BREW" + b" " * 1024,
        b"LOCK /" + b"a" * 1024,
        b"lock http://" + b"a" * 1024,
        b"GET\t/" + b"\x01" * 1024,
    ],
    ids=lambda wire: wire[:8],
)
def test_a_request_line_without_an_end_is_not_faint(wire: bytes) -> None:
    # Else what has no end within the bytes that are looked at would be for the fallback, past all rules.
    verdict = judge(wire)
    assert (verdict.kind, verdict.faint) == (VerdictKind.MORE, False)
    assert judge(b"get " + b"key " * 256).faint  # memcached


@pytest.mark.parametrize(
    "line",
    [
        b"a" + b" " * 65536 + b"x\n",
        b"GET " + b" " * 65536 + b"x\n",
        b"a HTTP" + b" \t" * 32768 + b"x\n",
        b"a " + b"HTTP/" * 13107 + b" x\n",
        b"a " + b"HTTP " * 13107 + b"x\n",
    ],
    ids=lambda line: line[:8],
)
def test_no_line_takes_longer_than_its_length(line: bytes) -> None:
    # With the square of it this takes minutes; a second where 4 KiB are looked at.
    bound = 1e8
    assert rounds(lambda: judge(line), bound) < bound


@given(
    st.one_of(st.sampled_from(GOOD), st.binary(max_size=40)),
    st.integers(0, 40),
    st.binary(max_size=4),
)
def test_yes_is_never_refused(line: bytes, at: int, put: bytes) -> None:
    wire = line[:at] + put + line[at:]
    for size in range(len(wire) + 1):
        if judge(wire[:size]).kind is VerdictKind.YES:
            frames = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS).receive(wire[:size])
            assert violations_in(frames) == []
            return


@pytest.mark.parametrize("wire", [w for w in LIKE if not w.startswith((b"get", b"Get"))])
def test_what_is_like_http_gets_its_error(wire: bytes) -> None:
    codec = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    last = [*codec.receive(wire), *codec.receive(b"Host: a\r\n\r\n")][-1]
    assert isinstance(last, Violation)
    assert last.farewell.startswith(b"HTTP/1.1 ")
