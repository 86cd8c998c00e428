from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.model.authority import with_port
from xproxy.routing.hosts import check_host_pattern, host_test

LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=8)
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
PORT = st.integers(1, 65535).map(str)


def matches(pattern: str, host: str) -> bool:
    return host_test([pattern])[1](host)


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("reviews", "reviews", True),
        ("reviews", "reviews:9080", True),
        ("Reviews", "reviews", True),
        ("reviews:9080", "reviews:9080", True),
        ("reviews:9080", "reviews:9081", False),
        ("reviews:9080", "reviews", False),
        ("*.a.com", "x.a.com", True),
        ("*.a.com", "x.y.a.com:80", True),
        ("*.a.com", "a.com", False),
        ("*.a.com", ".a.com", False),
        ("*.a.com:81", "x.a.com:81", True),
        ("*.a.com:81", "x.a.com", False),
        ("*-eu.a.com", "web-eu.a.com", True),
        ("a.*", "a.com", True),
        ("a.*", "a.", False),
        ("a.*", "b.a.com", False),
        ("a.*:80", "a.com:80", True),
        ("*", "", True),
        ("*:8080", "x:8080", True),
        ("*:8080", "x:8081", False),
        ("[::1]", "[::1]:80", True),
        ("[::1]:80", "[::1]:80", True),
        ("[::1]", "[::2]", False),
        ("reviews", "", False),
    ],
)
def test_one_pattern(pattern: str, host: str, expected: bool) -> None:
    assert matches(pattern, host) is expected


def test_an_rpc_request_has_no_host_and_only_a_star_matches_it() -> None:
    assert host_test(["*"])[1](None)
    assert not host_test(["a", "*.b", "c.*", "*:80"])[1](None)


@pytest.mark.parametrize("pattern", ["", ":80", "a*b", "*a*", "a b", "a/b", "u@h", "*.*"])
def test_a_bad_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_host_pattern(pattern)


@given(HOST, PORT)
def test_a_host_matches_itself_with_and_without_port_in_any_case(host: str, port: str) -> None:
    assert matches(host, host)
    assert matches(host.upper(), host)
    assert matches(host, f"{host}:{port}")
    assert matches(f"{host}:{port}", f"{host}:{port}")
    assert not matches(f"{host}:{port}", host)


@given(HOST, HOST, PORT)
def test_a_suffix_matches_what_ends_in_it_and_more(label: str, suffix: str, port: str) -> None:
    assert matches(f"*.{suffix}", f"{label}.{suffix}")
    assert matches(f"*.{suffix}", f"{label}.{suffix}:{port}")
    assert matches(f"{label}.*", f"{label}.{suffix}")
    assert not matches(f"*.{suffix}", suffix.rpartition(".")[2])


@given(
    st.lists(st.one_of(HOST, HOST.map("*.{}".format), HOST.map("{}.*".format)), max_size=5), HOST
)
def test_a_list_matches_if_one_of_it_does(patterns: list[str], host: str) -> None:
    assert host_test(patterns)[1](host) == any(matches(pattern, host) for pattern in patterns)


@pytest.mark.parametrize(
    ("pattern", "authority", "scheme", "expected"),
    [
        ("a.test:80", "a.test", "http", True),
        ("a.test:80", "a.test", "https", False),
        ("a.test:443", "a.test", "https", True),
        ("a.test:443", "a.test:", "https", True),
        ("a.test", "a.test:", "http", True),
        ("a.test", "A.TEST.", "http", True),
        ("a.test.", "a.test", "http", True),
        ("a.test:080", "a.test", "http", True),
        ("*.test:80", "a.test.", "http", True),
        ("*.test.", "a.test", "http", True),
        ("a.*:443", "a.test", "https", True),
        ("*:80", "a.test", "http", True),
        ("*:80", "a.test", "https", False),
        ("[::1]:80", "[0::1]", "http", True),
        ("[0:0::1]", "[::1]:8080", "http", True),
        ("a.test", "%61.test", "http", True),
    ],
)
def test_hosts_are_compared_and_not_their_spellings(
    pattern: str, authority: str, scheme: str, expected: bool
) -> None:
    assert matches(pattern, with_port(authority, scheme)) is expected
