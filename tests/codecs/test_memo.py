from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.dubbo.plugin import PLUGIN as DUBBO
from xproxy.codecs.dubbo.prefix import BYTES, make_prefix
from xproxy.codecs.hessian2 import write_binary, write_text
from xproxy.codecs.memo import Door, HeadMemo, IdentityMemo, WeakMemo
from xproxy.model.frames import Head
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.limits import DEFAULT_LIMITS, KIB
from xproxy.model.message import RequestHead, ResponseHead, recurring
from xproxy.model.traits import Role
from xproxy.registry import default_registry
from xproxy.testing.subject import Subject
from xproxy.testing.traffic import greet

_SMALL = 16 * KIB
"""What may hang on a head that a memory holds: its own few KiB, as text and as bytes."""


def test_equal_is_not_the_same() -> None:
    memo: IdentityMemo[int] = IdentityMemo()
    one, other = [1], [1]
    assert memo.put(one, 7) == 7
    assert memo.get(one) == 7
    assert memo.get(other) is None


def test_a_full_memory_is_emptied() -> None:
    memo: IdentityMemo[int] = IdentityMemo(2)
    keys = [object() for _ in range(3)]
    for number, key in enumerate(keys):
        memo.put(key, number)
    assert len(memo) == 1
    assert memo.get(keys[2]) == 2
    assert memo.get(keys[0]) is None


def through(door: Door, memory: dict[int, int], keys: Iterator[int] | range) -> None:
    for key in keys:
        if key not in memory and door.admits(memory, key):
            memory[key] = key


def test_a_memory_that_was_never_full_takes_all() -> None:
    memory: dict[int, int] = {}
    through(Door(10), memory, range(10))
    assert len(memory) == 10


def test_what_comes_once_drives_out_nothing_that_comes_again() -> None:
    memory: dict[int, int] = {}
    door = Door(10)
    through(door, memory, range(11))  # full once
    recurring_keys = range(1000, 1005)
    for _ in range(2):
        through(door, memory, recurring_keys)
    for number in range(100):
        through(door, memory, range(10_000 + 20 * number, 10_020 + 20 * number))
    assert set(memory) == set(recurring_keys)


def test_who_is_not_let_in_drives_nobody_out() -> None:
    memory: dict[int, int] = {}
    door = Door(4)
    through(door, memory, range(5))
    for _ in range(2):
        through(door, memory, range(10, 14))
    assert len(memory) == 4
    through(door, memory, range(99, 100))
    assert len(memory) == 4


@given(st.lists(st.integers(0, 60), max_size=400))
def test_a_memory_with_a_door_is_bounded(keys: list[int]) -> None:
    memory: dict[int, int] = {}
    door = Door(5)
    for key in keys:
        through(door, memory, iter([key]))
        assert len(memory) <= 5


@pytest.mark.parametrize(("others", "known"), [(18, True), (19, False)])
def test_what_has_come_once_is_forgotten_when_many_others_have(others: int, known: bool) -> None:
    memory: dict[int, int] = {}
    door = Door(5)
    through(door, memory, range(6))  # full once, and one is noted
    through(door, memory, range(100, 101 + others))
    through(door, memory, range(100, 101))
    assert (100 in memory) is known


def test_an_id_cannot_come_to_mean_another_object() -> None:
    memo: IdentityMemo[int] = IdentityMemo()
    for number in range(100):
        memo.put([number], number)  # nobody else holds the key
    fresh = [-1]
    assert memo.get(fresh) is None


def test_only_a_head_that_recurs_is_remembered() -> None:
    memo: HeadMemo[int] = HeadMemo()
    once, again = RequestHead(service="a", method="b"), RequestHead(service="a", method="b")
    assert memo.put(once, 1) == 1
    assert memo.get(once) is None
    assert memo.put(recurring(again), 2) == 2
    assert memo.get(again) == 2
    # What is made of a head that recurs is made for one message.
    assert not again.adding((("x", "y"),)).recurs
    assert not again.due_in(1).recurs
    assert not attrs.evolve(again, method="c").recurs


def test_a_head_that_its_codec_forgets_is_forgotten() -> None:
    memo: HeadMemo[int] = HeadMemo()
    for number in range(10):
        head = recurring(RequestHead(service="a", method=str(number)))
        memo.put(head, number)
        memo.put(head, number + 1)  # the reference that this replaces takes nothing away
        assert memo.get(head) == number + 1
        assert len(memo) == 1
    gone = weakref.ref(head)
    del head
    assert gone() is None
    assert len(memo) == 0


def test_a_weak_memory_is_bounded() -> None:
    memo: WeakMemo[int] = WeakMemo(2)
    heads = [RequestHead(service="a", method=str(number)) for number in range(3)]
    for number, head in enumerate(heads):
        memo.put(head, number)
    assert len(memo) == 1
    del heads[0]  # which was emptied out before
    assert memo.get(heads[1]) == 2


def test_a_head_that_does_not_recur_ends_with_its_message() -> None:
    memo: HeadMemo[int] = HeadMemo()
    head = RequestHead(service="a", method="b")
    memo.put(head, 1)
    gone = weakref.ref(head)
    del head
    assert gone() is None


def hanging(head: RequestHead | ResponseHead) -> int:
    """Return the bytes of all texts and byte strings that a head holds, by whatever way."""
    seen: set[int] = set()
    size = 0
    waiting: list[Any] = [head]  # Any: of whatever kind
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type) or callable(thing):
            continue
        seen.add(id(thing))
        if isinstance(thing, str | bytes | bytearray | memoryview):
            size += len(thing)
        waiting += gc.get_referents(thing)
    return size


def _dubbo(arguments: bytes, tail: bytes) -> bytes:
    body = make_prefix("com.a.Service", "call", BYTES).block + arguments + tail
    return b"\xda\xbb\xc2\x00" + (7).to_bytes(8) + len(body).to_bytes(4) + body


def heads_of(plugin: CodecPlugin, wire: bytes) -> Iterator[RequestHead | ResponseHead]:
    for frame in plugin.open(Role.SERVER, DEFAULT_LIMITS).receive(wire):
        if isinstance(frame, Head):
            yield frame.message


@given(
    content=st.sampled_from([0, 10, 200 * KIB]),
    tail=st.sampled_from([0, 10, 3 * KIB, 200 * KIB]),
    is_map=st.booleans(),
)
def test_no_dubbo_head_that_recurs_has_its_message_hanging_on_it(
    content: int, tail: int, is_map: bool
) -> None:
    behind = b"H" + write_text("k") + write_text("v" * tail) + b"Z" if is_map else bytes(tail)
    for head in heads_of(DUBBO, _dubbo(write_binary(bytes(content)), behind)):
        assert not head.recurs or hanging(head) <= _SMALL


@pytest.mark.parametrize(
    "plugin",
    [p for p in default_registry().codecs() if not p.traits.headless],
    ids=lambda plugin: str(plugin.name),
)
def test_no_head_that_recurs_is_large(plugin: CodecPlugin) -> None:
    """Of any codec: with large bodies, and with many fields."""
    subject = Subject(plugin)
    found: list[bool] = []
    for fields in (0, 1, 40):
        for body in (0, 10, 40 * KIB):
            client, server = (
                plugin.open(role, DEFAULT_LIMITS) for role in (Role.CLIENT, Role.SERVER)
            )
            wire = greet(client, server)
            more = tuple((f"x-{number}", "v" * 500) for number in range(fields))
            headers = subject.request.headers.extend(more) if more else NO_HEADERS
            asked = attrs.evolve(subject.request, headers=Headers(headers.pairs))
            wire += client.send(Head(1, asked, bytes(body), True))
            answers = b""
            for frame in server.receive(wire):
                if isinstance(frame, Head):
                    found.append(frame.message.recurs)
                    assert not frame.message.recurs or hanging(frame.message) <= _SMALL
                    answer = Head(frame.stream_id, subject.response, bytes(body), True)
                    answers += server.send(answer)
            for frame in client.receive(answers):
                if isinstance(frame, Head):
                    assert not frame.message.recurs or hanging(frame.message) <= _SMALL
    assert any(found), "no head of this codec is ever remembered"
