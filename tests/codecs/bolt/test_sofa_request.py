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


def draft(*values: bytes, instance: bytes = b"o\x90") -> bytes:
    """As SOFA's own hessian writes it."""
    head = b"O" + bytes((0x90 + len(CLASS),)) + CLASS + b"\x92"
    return head + text("targetAppName") + text("methodName") + instance + b"".join(values)


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
        (draft(b"N", text("say")), "say"),
        (draft(text("app"), b"S\0\x28" + b"s" * 40), "s" * 40),
        (draft(b"N", text("say"), instance=b"\x60"), ""),
        (draft(b"N", text("say"), instance=b"O\x90"), ""),
        (request(b"N", text("say"), instance=b"o\x90"), ""),
        (b"O\x80", ""),
        (b"O\xbf" + b"x" * 10, ""),
        (b"\x05hello", ""),
        (b"", ""),
    ],
)
def test_methods(content: bytes, method: str) -> None:
    assert method_of(content) == method


def test_what_is_called_is_not_looked_for_far_behind() -> None:
    items = b"\x58\xc9\0" + (b"S\x04\0" + b"x" * 1024) * 256
    assert method_of(request(items, text("say"))) == ""
    assert method_of(request(b"\x58\x98" + text("x" * 30) * 8, text("say"))) == "say"


def test_a_cut_request_has_no_method() -> None:
    for content in (request(text("app"), text("say")), draft(text("app"), text("say"))):
        assert {method_of(content[:size]) for size in range(len(content))} == {""}
        assert method_of(content) == "say"
        assert {method_of(content[:size]) for size in range(len(content))} == {""}


def test_definitions_that_begin_alike_are_told_apart() -> None:
    one = draft(b"N", text("say"))
    other = one.replace(b"targetAppName", b"targetAppNama").replace(b"\x92", b"\x93", 1)
    other = other.replace(text("methodName"), text("more") + text("methodName")).replace(
        b"N" + text("say"), b"NN" + text("said")
    )
    for _ in range(3):
        assert method_of(one) == "say"
        assert method_of(other) == "said"


@settings(max_examples=200)
@given(noise=st.binary(max_size=40), at=st.integers(0, 80))
def test_nothing_is_raised(noise: bytes, at: int) -> None:
    content = request(text("app"), text("say"))
    method_of(content[:at] + noise + content[at:])
