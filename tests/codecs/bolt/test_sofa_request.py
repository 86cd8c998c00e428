"""The method's name is found in a plain SofaRequest, and nothing is raised for anything else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.codecs.bolt.sofa_request import CLASS, method_of


def text(value: str) -> bytes:
    raw, units = value.encode(), len(value.encode("utf-16-be")) // 2
    return (bytes((units,)) if units < 32 else bytes((0x30 + (units >> 8), units & 255))) + raw


def request(
    *values: bytes,
    names: tuple[str, ...] = ("targetAppName", "methodName"),
    instance: bytes = b"\x60",
) -> bytes:
    head = b"C" + text(CLASS.decode()) + bytes((0x90 + len(names),))
    return head + b"".join(text(name) for name in names) + instance + b"".join(values)


@pytest.mark.parametrize(
    ("content", "method"),
    [
        (request(b"N", text("say")), "say"),
        (request(text("app" * 20), text("say")), "say"),
        (request(b"T", text("größe😀")), "größe😀"),
        (request(text("say"), names=("methodName",)), "say"),
        (request(b"N", text("say"), instance=b"O\x90"), "say"),
        (request(b"N", b"N"), ""),
        (request(b"N", text("two\nlines")), ""),
        (request(b"H", text("say")), ""),
        (request(b"N", b"S\xff\xff"), ""),
        (request(b"N", text("say"), instance=b"M"), ""),
        (request(b"N", names=("a", "b")), ""),
        (b"C" + text("x") + b"\xc8\x21", ""),
        (b"C" + text("x") + b"\xbf", ""),
        (b"C" + text("x") + b"I\0\0\0\1", ""),
        (b"C\x33\xff" + b"x" * 2000, ""),
        (b"\x05hello", ""),
        (b"", ""),
    ],
)
def test_methods(content: bytes, method: str) -> None:
    assert method_of(content) == method


def test_a_cut_request_has_no_method() -> None:
    content = request(text("app"), text("say"))
    assert {method_of(content[:size]) for size in range(len(content))} == {""}


@settings(max_examples=200)
@given(noise=st.binary(max_size=40), at=st.integers(0, 80))
def test_nothing_is_raised(noise: bytes, at: int) -> None:
    content = request(text("app"), text("say"))
    method_of(content[:at] + noise + content[at:])
