from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.model.paths import (
    has_escaped_slash,
    in_capitals,
    is_plain,
    merged,
    normalised_path,
    with_slashes,
)

PIECES = st.sampled_from(
    [
        *("/", "//", ".", "..", "/.", "/..", "%2e", "%2E%2e", "%61", "admin", "a", "%", "%2"),
        *("%%32", "\\", "%2f", "%5C", "%25", "%252e", ";", "é", "%c3%a9", "~"),
    ]
)
PATHS = st.lists(PIECES, max_size=12).map(lambda parts: "/" + "".join(parts))


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/", "/"),
        ("/admin", "/admin"),
        ("/./admin", "/admin"),
        ("/x/../admin", "/admin"),
        ("/%61dmin", "/admin"),
        ("/%2e%2e/admin", "/admin"),
        ("/x/%2E%2E/admin", "/admin"),
        ("/x\\..\\admin", "/admin"),
        ("/../../admin", "/admin"),
        ("/admin/.", "/admin/"),
        ("/admin/..", "/"),
        ("/a/./b/../c/", "/a/c/"),
        ("//admin", "//admin"),
        ("/a//../b", "/a/b"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a..b/..c/d..", "/a..b/..c/d.."),
        ("/%252e%252e/admin", "/%252e%252e/admin"),
        ("/%%32e/x", "/%%32e/x"),
        ("/%2%65/x", "/%2%65/x"),
        ("/100%", "/100%"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%20b%7Ec", "/a%20b~c"),
        ("/x/..;/admin", "/x/..;/admin"),
    ],
)
def test_the_plainest_spelling(path: str, plain: str) -> None:
    assert normalised_path(path) == plain


def test_slashes_and_capitals() -> None:
    assert merged("//a///b/") == "/a/b/"
    assert in_capitals("/a%2fb%C3%a9%zz") == "/a%2Fb%C3%A9%zz"
    assert with_slashes("/a%2fb%5Cc%2E") == "/a/b/c%2E"
    assert has_escaped_slash("/a%5cb")
    assert not has_escaped_slash("/a%25b")


@given(PATHS)
def test_once_is_enough_and_never_leads_above_the_root(path: str) -> None:
    plain = normalised_path(path)
    assert normalised_path(plain) == plain
    assert plain.startswith("/")
    assert not {".", ".."} & set(plain.split("/"))
    assert merged(merged(plain)) == merged(plain)
    assert not {".", ".."} & set(merged(plain).split("/")), "merging makes no dot segments"


@given(PATHS)
def test_what_is_plain_is_left_alone(path: str) -> None:
    if is_plain(path):
        assert normalised_path(path) == merged(path) == in_capitals(path) == path
        assert not has_escaped_slash(path)


@given(PATHS)
def test_it_means_the_same_to_whoever_decodes_it(path: str) -> None:
    """An upstream that decodes and then resolves comes to the same place as for the path as it was sent."""

    def resolved(text: str) -> list[str]:
        kept: list[str] = []
        for segment in re.split(r"[/\\]", text)[1:]:
            decoded = unquote(segment.replace("%2f", "%2F"), "latin-1")
            if decoded == "..":
                del kept[-1:]
            elif decoded != ".":
                kept.append(decoded)
        return [segment for segment in kept if segment]

    # Where an empty segment is what `..` takes away, servers that merge slashes differ from those that do not.
    if "//" not in path.replace("\\", "/"):
        assert resolved(normalised_path(path)) == resolved(path)


@given(st.text(st.characters(max_codepoint=255), max_size=30))
def test_any_text(text: str) -> None:
    plain = normalised_path("/" + text)
    assert normalised_path(plain) == plain
