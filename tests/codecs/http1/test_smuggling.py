"""Every way to say one thing to us and another to the next reader is refused, and nothing complete passes."""

from __future__ import annotations

from typing import Final

import pytest

from tests.codecs.http1.driving import GET, OK, asking, client, cuts, read, served, server
from xproxy.model.frames import Data, Head

_GET: Final = b"GET / HTTP/1.1\r\nHost: a\r\n"
_POST: Final = b"POST / HTTP/1.1\r\nHost: a\r\n"
_TE: Final = b"Transfer-Encoding: chunked\r\n"
_NEXT: Final = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def _post(fields: bytes, body: bytes = b"0\r\n\r\n") -> bytes:
    return _POST + fields + b"\r\n" + body


def _chunks(body: bytes) -> bytes:
    return _post(_TE, body)


HEADS: Final[dict[str, tuple[int, bytes]]] = {
    # Two framings
    "cl-te": (400, _post(b"Content-Length: 6\r\n" + _TE, b"0\r\n\r\nG")),
    "te-cl": (400, _post(_TE + b"Content-Length: 4\r\n", b"5c\r\nGPOST")),
    "cl-te-other-case": (400, _post(b"content-length: 6\r\ntransfer-ENCODING: chunked\r\n")),
    "cl-and-unknown-te": (400, _post(b"Content-Length: 4\r\nTransfer-Encoding: gzip\r\n")),
    "connection-names-cl-of-cl-te": (
        400,
        _post(b"Connection: content-length\r\nContent-Length: 4\r\n" + _TE),
    ),
    # Transfer-Encoding that is not exactly chunked
    "te-te": (400, _post(_TE + _TE)),
    "te-te-unknown": (400, _post(_TE + b"Transfer-Encoding: x\r\n")),
    "te-unknown-te": (501, _post(b"Transfer-Encoding: x\r\n" + _TE)),
    "te-comma-twice": (400, _post(b"Transfer-Encoding: chunked, chunked\r\n")),
    "te-gzip-chunked": (501, _post(b"Transfer-Encoding: gzip, chunked\r\n")),
    "te-chunked-gzip": (400, _post(b"Transfer-Encoding: chunked, gzip\r\n")),
    "te-gzip": (400, _post(b"Transfer-Encoding: gzip\r\n")),
    "te-identity": (400, _post(b"Transfer-Encoding: identity\r\n")),
    "te-chunked-identity": (400, _post(b"Transfer-Encoding: chunked, identity\r\n")),
    "te-empty": (400, _post(b"Transfer-Encoding:\r\n")),
    "te-empty-member": (400, _post(b"Transfer-Encoding: chunked,\r\n")),
    "te-leading-comma": (400, _post(b"Transfer-Encoding: ,chunked\r\n")),
    "te-quoted": (400, _post(b'Transfer-Encoding: "chunked"\r\n')),
    "te-parameter": (400, _post(b"Transfer-Encoding: chunked;q=1\r\n")),
    "te-xchunked": (400, _post(b"Transfer-Encoding: xchunked\r\n")),
    "te-vertical-tab": (400, _post(b"Transfer-Encoding: \x0bchunked\r\n")),
    "te-form-feed": (400, _post(b"Transfer-Encoding: chunked\x0c\r\n")),
    "te-no-break-space": (400, _post(b"Transfer-Encoding: \xa0chunked\r\n")),
    "te-nul": (400, _post(b"Transfer-Encoding: chunked\0\r\n")),
    "te-space-before-colon": (400, _post(b"Transfer-Encoding : chunked\r\n")),
    "te-tab-before-colon": (400, _post(b"Transfer-Encoding\t: chunked\r\n")),
    "te-folded": (400, _post(b"Transfer-Encoding:\r\n chunked\r\n")),
    "te-folded-by-tab": (400, _post(b"Transfer-Encoding:\r\n\tchunked\r\n")),
    "te-in-http-1.0": (400, b"POST / HTTP/1.0\r\nHost: a\r\n" + _TE + b"\r\n0\r\n\r\n"),
    # Content-Length that is not one number
    "cl-twice-different": (400, _post(b"Content-Length: 1\r\nContent-Length: 2\r\n", b"ab")),
    "cl-twice-equal": (400, _post(b"Content-Length: 1\r\nContent-Length: 1\r\n", b"a")),
    "cl-comma": (400, _post(b"Content-Length: 1, 1\r\n", b"a")),
    "cl-comma-different": (400, _post(b"Content-Length: 1, 2\r\n", b"ab")),
    "cl-plus": (400, _post(b"Content-Length: +1\r\n", b"a")),
    "cl-minus": (400, _post(b"Content-Length: -1\r\n", b"a")),
    "cl-hex": (400, _post(b"Content-Length: 0x1\r\n", b"a")),
    "cl-underscore": (400, _post(b"Content-Length: 1_0\r\n", b"a")),
    "cl-inner-space": (400, _post(b"Content-Length: 1 0\r\n", b"a")),
    "cl-decimal": (400, _post(b"Content-Length: 1.0\r\n", b"a")),
    "cl-exponent": (400, _post(b"Content-Length: 1e1\r\n", b"a")),
    "cl-empty": (400, _post(b"Content-Length:\r\n")),
    "cl-superscript": (400, _post(b"Content-Length: \xb2\r\n", b"ab")),
    "cl-above-2^63": (400, _post(b"Content-Length: 9223372036854775808\r\n")),
    "cl-overlong": (400, _post(b"Content-Length: 00000000000000000000001\r\n", b"a")),
    "cl-wraps-at-2^64": (400, _post(b"Content-Length: 18446744073709551617\r\n", b"a")),
    "cl-folded": (400, _post(b"Content-Length: 1\r\n 0\r\n", b"a")),
    "cl-space-before-colon": (400, _post(b"Content-Length : 1\r\n", b"a")),
    # Lines
    "obs-fold": (400, _GET + b"X: 1\r\n  2\r\n\r\n"),
    "first-field-begins-with-space": (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    "bare-lf-line": (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "bare-lf-end": (400, _GET + b"\n"),
    "bare-lf-hides-a-field": (400, _GET + b"X: 1\nContent-Length: 5\r\n\r\n"),
    "bare-lf-everywhere": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "bare-lf-before-the-request": (400, b"\n" + GET),
    "bare-cr-in-a-value": (400, _GET + b"X: 1\r2\r\n\r\n"),
    "bare-cr-hides-a-field": (400, _GET + b"X: 1\rTransfer-Encoding: chunked\r\n\r\n"),
    "bare-cr-in-the-request-line": (400, b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n"),
    "cr-cr-lf": (400, _GET + b"X: 1\r\r\n\r\n"),
    "lf-cr": (400, _GET + b"X: 1\n\r\n\r\n"),
    "no-colon": (400, _GET + b"X\r\n\r\n"),
    "empty-name": (400, _GET + b": 1\r\n\r\n"),
    "space-in-name": (400, _GET + b"X Y: 1\r\n\r\n"),
    "space-before-colon": (400, _GET + b"X : 1\r\n\r\n"),
    "nul-in-name": (400, _GET + b"X\0: 1\r\n\r\n"),
    "high-byte-in-name": (400, _GET + b"X\xe9: 1\r\n\r\n"),
    "separator-in-name": (400, _GET + b"X(1): 1\r\n\r\n"),
    "nul-in-value": (400, _GET + b"X: \0\r\n\r\n"),
    "control-in-value": (400, _GET + b"X: \x01\r\n\r\n"),
    "delete-in-value": (400, _GET + b"X: \x7f\r\n\r\n"),
    # Host
    "no-host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two-hosts": (400, _GET + b"Host: b\r\n\r\n"),
    "two-equal-hosts": (400, _GET + b"Host: a\r\n\r\n"),
    "host-list": (400, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    "host-comma": (400, b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"),
    "host-with-path": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "host-with-user": (400, b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    "host-with-scheme": (400, b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n"),
    "host-high-byte": (400, b"GET / HTTP/1.1\r\nHost: \xe9\r\n\r\n"),
    "host-bad-port": (400, b"GET / HTTP/1.1\r\nHost: a:x\r\n\r\n"),
    "host-port-too-high": (400, b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
    "host-two-ports": (400, b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n"),
    "host-only-port": (400, b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n"),
    "host-open-bracket": (400, b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    "absolute-form-without-host": (400, b"GET http://a/ HTTP/1.1\r\n\r\n"),
    "absolute-form-two-hosts": (400, b"GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    # Request line
    "two-spaces": (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "tab-for-space": (400, b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n"),
    "space-at-end": (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    "space-at-start": (400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space-in-target": (400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "nul-in-target": (400, b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "fragment": (400, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "relative-target": (400, b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "star-for-get": (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "authority-for-get": (400, b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "absolute-form-ftp": (400, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "absolute-form-user": (400, b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "absolute-form-no-authority": (400, b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"),
    "connect-path": (400, b"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    "connect-no-port": (400, b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "connect-with-length": (400, b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"),
    "connect-with-chunks": (400, b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n" + _TE + b"\r\n0\r\n\r\n"),
    "connect-misspelt": (400, b"connect a:1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "head-misspelt": (400, b"Head / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "http2-preface": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "method-not-a-token": (400, b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "method-too-long": (400, b"G" * 33 + b" / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no-version": (400, b"GET /\r\n\r\n"),
    "version-lower-case": (400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    "version-two-digits": (400, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    "version-without-minor": (400, b"GET / HTTP/1\r\nHost: a\r\n\r\n"),
    "version-superscript": (400, b"GET / HTTP/1.\xb9\r\nHost: a\r\n\r\n"),
    "version-2": (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    "version-0.9": (505, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    "three-empty-lines": (400, b"\r\n\r\n\r\n" + GET),
    "expectation": (417, _POST + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\nx"),
    "expectation-list": (417, _POST + b"Expect: 100-continue, x\r\nContent-Length: 1\r\n\r\nx"),
    # Sizes
    "target-too-long": (414, b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "request-line-without-end": (414, b"GET /" + b"a" * 65536),
    "too-many-fields": (431, _GET + b"X: 1\r\n" * 100 + b"\r\n"),
    "head-too-long": (431, _GET + b"X: " + b"a" * 65536 + b"\r\n\r\n"),
    "head-without-end": (431, _GET + b"X: " + b"a" * 65536),
}

BODIES: Final[dict[str, tuple[int, bytes]]] = {
    "size-0x": (400, _chunks(b"0x3\r\nabc\r\n0\r\n\r\n")),
    "size-plus": (400, _chunks(b"+3\r\nabc\r\n0\r\n\r\n")),
    "size-minus": (400, _chunks(b"-3\r\nabc\r\n0\r\n\r\n")),
    "size-underscore": (400, _chunks(b"1_0\r\nabcdefghijklmnop\r\n0\r\n\r\n")),
    "size-leading-space": (400, _chunks(b" 3\r\nabc\r\n0\r\n\r\n")),
    "size-trailing-space": (400, _chunks(b"3 \r\nabc\r\n0\r\n\r\n")),
    "size-leading-tab": (400, _chunks(b"\t3\r\nabc\r\n0\r\n\r\n")),
    "size-empty": (400, _chunks(b"\r\nabc\r\n0\r\n\r\n")),
    "size-not-hex": (400, _chunks(b"g\r\nabc\r\n0\r\n\r\n")),
    "size-nul": (400, _chunks(b"3\0\r\nabc\r\n0\r\n\r\n")),
    "size-comma": (400, _chunks(b"3,3\r\nabc\r\n0\r\n\r\n")),
    "size-17-digits": (400, _chunks(b"00000000000000003\r\nabc\r\n0\r\n\r\n")),
    "size-above-2^63": (400, _chunks(b"8000000000000000\r\nabc\r\n0\r\n\r\n")),
    "size-above-2^64": (400, _chunks(b"10000000000000003\r\nabc\r\n0\r\n\r\n")),
    "size-only-extension": (400, _chunks(b";x\r\nabc\r\n0\r\n\r\n")),
    "extension-lf": (400, _chunks(b"3;a\nb\r\nabc\r\n0\r\n\r\n")),
    "extension-cr": (400, _chunks(b"3;a\rb\r\nabc\r\n0\r\n\r\n")),
    "extension-nul": (400, _chunks(b"3;\0\r\nabc\r\n0\r\n\r\n")),
    "extension-257": (400, _chunks(b"3;" + b"e" * 256 + b"\r\nabc\r\n0\r\n\r\n")),
    "extension-without-end": (400, _chunks(b"3;" + b"e" * 512)),
    "extensions-above-16-KiB": (
        400,
        _chunks((b"1;" + b"e" * 255 + b"\r\na\r\n") * 65 + b"0\r\n\r\n"),
    ),
    "size-line-ends-in-lf": (400, _chunks(b"3\nabc\r\n0\r\n\r\n")),
    "size-line-ends-in-cr": (400, _chunks(b"3\rabc\r\n0\r\n\r\n")),
    "data-too-long": (400, _chunks(b"3\r\nabcd\r\n0\r\n\r\n")),
    "data-too-short": (400, _chunks(b"4\r\nabc\r\n0\r\n\r\n")),
    "data-ends-in-lf": (400, _chunks(b"3\r\nabc\n0\r\n\r\n")),
    "data-ends-in-cr": (400, _chunks(b"3\r\nabc\r0\r\n\r\n")),
    "data-ends-in-lf-lf": (400, _chunks(b"3\r\nabc\n\n0\r\n\r\n")),
    "trailer-bare-lf": (400, _chunks(b"0\r\nX: 1\n\r\n")),
    "trailer-folded": (400, _chunks(b"0\r\nX: 1\r\n 2\r\n\r\n")),
    "trailer-space-before-colon": (400, _chunks(b"0\r\nX : 1\r\n\r\n")),
    "trailer-no-colon": (400, _chunks(b"0\r\nX\r\n\r\n")),
    "trailer-is-a-request": (400, _chunks(b"0\r\n" + _NEXT)),
    "trailer-nul": (400, _chunks(b"0\r\nX: \0\r\n\r\n")),
    "too-many-trailers": (431, _chunks(b"0\r\n" + b"X: 1\r\n" * 101 + b"\r\n")),
    "trailers-too-long": (431, _chunks(b"0\r\nX: " + b"a" * 65536 + b"\r\n\r\n")),
}


@pytest.mark.parametrize(("code", "wire"), HEADS.values(), ids=HEADS.keys())
def test_a_bad_head_is_answered_and_nothing_passes(code: int, wire: bytes) -> None:
    expected = None
    for pieces in cuts(wire + _NEXT):
        side = served(pieces)
        assert [event[0] for event in side.events] == ["violation"]
        assert side.sent.startswith(b"HTTP/1.1 %d " % code)
        assert b"\r\nConnection: close\r\n" in side.sent
        expected = side.sent if expected is None else expected
        assert side.sent == expected
        assert side.codec.receive(_NEXT) == []


@pytest.mark.parametrize(("code", "wire"), BODIES.values(), ids=BODIES.keys())
def test_a_bad_body_never_ends(code: int, wire: bytes) -> None:
    expected = None
    for pieces in cuts(wire + _NEXT):
        side = served(pieces)
        kinds = [event[0] for event in side.events]
        assert kinds in (["head", "violation"], ["head", "body", "violation"])
        assert side.sent.startswith(b"HTTP/1.1 %d " % code)
        expected = side.sent if expected is None else expected
        assert side.sent == expected
        assert side.codec.receive(_NEXT) == []


@pytest.mark.parametrize(("code", "wire"), [HEADS["cl-te"], BODIES["size-0x"]])
def test_a_bad_request_behind_a_good_one_waits_for_its_turn(code: int, wire: bytes) -> None:
    for pieces in cuts(GET + wire):
        codec = server()
        before = read(codec, pieces)
        assert [event[0] for event in before] == ["head", "end"]
        answer = codec.send(Head(1, OK, b"first", end=True))
        assert answer.endswith(b"\r\n\r\nfirst")
        assert b"close" not in answer
        after = read(codec, [b""])
        assert after[-1][0] == "violation"
        farewell = after[-1][2]
        assert isinstance(farewell, bytes)
        assert farewell.startswith(b"HTTP/1.1 %d " % code)


def test_a_body_that_breaks_under_its_answer_gets_no_second_one() -> None:
    codec = server()
    read(codec, [_chunks(b"3\r\nabc\r\n")])
    codec.send(Head(1, OK))
    assert codec.send(Data(1, b"so far")) == b"6\r\nso far\r\n"
    assert read(codec, [b"x\r\n"]) == [("violation", "malformed chunk size line", b"")]
    assert codec.send(Data(1, b"and on", end=True)) == b"6\r\nand on\r\n0\r\n\r\n"


RESPONSES: Final[dict[str, bytes]] = {
    "cl-te": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "cl-twice-different": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "cl-comma": b"HTTP/1.1 200 OK\r\nContent-Length: 1,1\r\n\r\na",
    "te-te": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "te-gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
    "te-in-http-1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "101-unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    "version-2": b"HTTP/2.0 200 OK\r\n\r\n",
    "version-0.9": b"<html>\r\n\r\n",
    "status-two-digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status-four-digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status-below-100": b"HTTP/1.1 099 OK\r\n\r\n",
    "status-superscript": b"HTTP/1.1 20\xb2 OK\r\n\r\n",
    "status-line-tab": b"HTTP/1.1\t200\tOK\r\n\r\n",
    "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare-cr": b"HTTP/1.1 200 OK\r\nX: 1\r2\r\n\r\n",
    "empty-line-first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n",
    "space-before-colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "nul": b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
    "head-too-long": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 65536,
}


@pytest.mark.parametrize("wire", RESPONSES.values(), ids=RESPONSES.keys())
def test_a_bad_response_never_passes(wire: bytes) -> None:
    for pieces in cuts(wire):
        codec = asking()
        found = read(codec, pieces)
        assert [event[0] for event in found] == ["violation"]
        assert found[0][2] == b""
        assert codec.receive(b"HTTP/1.1 200 OK\r\n\r\n") == []


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_chunked_response_never_ends(name: str) -> None:
    body = BODIES[name][1].partition(b"\r\n\r\n")[2]
    for pieces in cuts(b"HTTP/1.1 200 OK\r\n" + _TE + b"\r\n" + body):
        found = read(asking(), pieces)
        assert [event[0] for event in found] in (
            ["head", "violation"],
            ["head", "body", "violation"],
        )


@pytest.mark.parametrize("extra", [b"\r\n", b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + _TE + b"\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + _TE + b"\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n",
    ],
)
def test_a_response_with_more_behind_it_is_split(wire: bytes, extra: bytes) -> None:
    for pieces in cuts(wire + extra):
        found = [event[0] for event in read(asking(), pieces)]
        assert found[-1] == "violation"
        assert "end" in found or "trailers" in found


def test_bytes_without_a_request_are_a_violation() -> None:
    assert read(client(), [b"H"])[0][0] == "violation"


@pytest.mark.parametrize(
    "fields",
    [
        b"Connection: host\r\n",
        b"Connection: content-length, transfer-encoding\r\nContent-Length: 3\r\n",
        b"Connection: close, Content-Length\r\nContent-Length: 3\r\n",
    ],
)
def test_framing_and_host_cannot_be_named_away(fields: bytes) -> None:
    body = b"abc" if b"Length: " in fields else b""
    found = served([_POST + fields + b"\r\n" + body]).events
    head = found[0][1]
    assert getattr(head, "service", None) == "a"
    assert ("body", b"abc") in found or not body
