"""Does a connection begin with a request of HTTP/1? Judged by its first line, as others speak in lines, too.

Rules of this file:

* YES takes all of a request line: a method, a target in a form that HTTP has, and ``HTTP/1.x``. ``OPTIONS sip:…
  SIP/2.0``, ``GET key`` (Redis) and ``EHLO host`` are not HTTP.
* MAYBE is HTTP spoken badly. It is answered with an error, and never passed on as something else: a lenient server
  behind a fallback might serve it, past all rules. HTTP/0.9 (``GET /admin``) is such a line as well.
* White space is whatever any server takes for it, and control characters in a path hide no request.
* Until the line has ended, more can come. What begins with a well-known method and a target of HTTP is not faint.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from xproxy.codecs.api import MAYBE, NO, YES, Verdict
from xproxy.codecs.http1.snapshot import MAX_BLANK_LINES

_METHOD_CHARS: Final = 32
_KNOWN: Final = (
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"PATCH",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"PROPFIND",
    b"REPORT",
    b"PURGE",
)
"""Methods by which alone a request is known."""

_BLANK: Final = b"\r\n \t\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0"
"""What some reader takes for white space: RFC 9112 §3 names the first of them, Python splits at all."""
_TO_SPACE: Final = bytes(0x20 if byte in _BLANK else byte for byte in range(256))
_MOST_BLANK: Final = 256
"""Bytes of white space before a request, more of which nobody else begins with."""
_LONG: Final = 1024
"""Bytes of a line that has not ended, from which on what looks like a request is not faint."""
_PROPER_STARTS: Final = tuple(b"\r\n" * count for count in range(MAX_BLANK_LINES + 1))
_TOKEN: Final = re.compile(rb"[A-Za-z][A-Za-z0-9!#$%&'*+\-.^_`|~]*")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1b\x7f]")
_GOOD: Final = re.compile(
    rb"(?!PRI )[A-Z][A-Z0-9!#$%&'*+\-.^_`|~]{0,31} "
    rb"(?:(?<!CONNECT )(?:/[^\x00-\x20\x7f]*|(?i:https?)://[^\x00-\x20\x7f]+)|(?<=OPTIONS )\*"
    rb"|(?<=CONNECT )[^\x00-\x20\x7f/?#@]+:[0-9]{1,5})"
    rb" HTTP/1\.[0-9]"
)
_ANY_VERSION: Final = re.compile(rb"\bHTTP(?:/[^ ]*)?\Z", re.IGNORECASE)
_VERSION_WITHIN: Final = re.compile(rb"\bHTTP/[0-9]", re.IGNORECASE)
_OTHER_VERSION: Final = re.compile(rb"[A-Z]+/[0-9]", re.IGNORECASE)
_PROXIED: Final = (b"TCP4", b"TCP6", b"UNKNOWN")
_VERSION: Final = b"HTTP/1."
_SCHEMES: Final = (b"http://", b"https://")


def judge(prefix: bytes) -> Verdict:
    """Judge the first bytes of a connection. Takes time by their number only."""
    size = len(prefix)
    line = prefix.lstrip(_BLANK)
    start = prefix[: size - len(line)]
    if len(start) > _MOST_BLANK:
        return MAYBE
    if not line:
        return Verdict.more(size + 1, faint=True)
    token = _TOKEN.match(line)
    if token is None or token.end() > _METHOD_CHARS or line.startswith(b"PRI "):
        return NO  # PRI: the preface of HTTP/2, or nothing
    if token.end() < len(line) and line[token.end()] not in _BLANK:
        return NO
    end = line.find(b"\n")
    whole = line if end < 0 else line[:end].removesuffix(b"\r")
    proper = start in _PROPER_STARTS
    if end >= 0 and proper and line.startswith(b"\r\n", end - 1) and _is_good(whole):
        return YES
    controls = _CONTROL.search(whole) is not None
    words = _words(whole)
    # A lenient server may serve a path with control characters in it; in what others say they are common.
    if controls and words[1:2] and not words[1].startswith(b"/"):
        return NO
    if end < 0:
        known = proper and not controls and _well_known(line)
        # A lenient server serves a line that ends with the input, too.
        whole_already = _is_bad(words) or (size >= _LONG and _likely(words))
        return Verdict.more(size + 1, faint=not (known or whole_already))
    return MAYBE if _is_bad(words) else NO


def _is_good(line: bytes) -> bool:
    return _GOOD.fullmatch(line) is not None and _CONTROL.search(line) is None


def _words(line: bytes) -> Sequence[bytes]:
    return line.translate(_TO_SPACE).split()


def _likely(words: Sequence[bytes]) -> bool:
    """Tell whether a long line that has not ended looks like a request: to those who read it leniently, too."""
    if len(words) < 2 or words[0] in _KNOWN:
        return True  # a word, and white space without an end
    return words[1].startswith(b"/") or words[1][: len(_SCHEMES[1])].lower().startswith(_SCHEMES)


def _is_bad(words: Sequence[bytes]) -> bool:
    """Tell whether the words of a line are HTTP spoken badly.

    It is told by its version, however that is written; by a well-known method and a path, with no other protocol's
    version after it; or as PROXY's first version, which has been taken away where a listener expects it.
    """
    if len(words) < 2:
        return False
    if _ANY_VERSION.search(words[-1]) is not None or any(map(_VERSION_WITHIN.search, words[1:])):
        return True
    if words[0].upper() in _KNOWN and words[1].startswith(b"/"):
        return len(words) == 2 or _OTHER_VERSION.match(words[2]) is None
    return words[0].upper() == b"PROXY" and words[1].upper() in _PROXIED


def _well_known(line: bytes) -> bool:
    """Tell whether an unfinished line begins as a request with a well-known method does."""
    line = line.rstrip(b"\r")
    method, space, rest = line.partition(b" ")
    if not space or method not in _KNOWN:
        return False
    target, _, version = rest.partition(b" ")
    if not _VERSION.startswith(version[: len(_VERSION)]):
        return False
    if method == b"CONNECT":
        return b"/" not in target and b"{" not in target
    if target[:1] in (b"", b"/"):
        return True
    if method == b"OPTIONS" and target == b"*":
        return True
    lower = target[: len(_SCHEMES[1])].lower()
    return any(scheme.startswith(lower[: len(scheme)]) for scheme in _SCHEMES)
