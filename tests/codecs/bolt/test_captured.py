"""What npm's sofa-bolt-node and sofa-rpc-node say to each other, in version 1, and 2 without and with CRC."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xproxy.codecs.bolt.plugin import PLUGIN
from xproxy.codecs.bolt.wire import BoltExtra
from xproxy.model.frames import Head
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

FILES = sorted((Path(__file__).parent / "captured").glob("*.json"))
DIALECTS = {"bolt-1": 0x01000001, "bolt-2": 0x02020001, "bolt-2-crc": 0x02020101}
"""Version, ver1, switch and codec."""
CALLS = ["add", "hello", "boom", "slow", "slow"]


def said(path: Path) -> tuple[bytes, bytes]:
    segments = json.loads(path.read_text())["segments"]
    asked, told = (
        b"".join(bytes.fromhex(part["hex"]) for part in segments if part["dir"] == side)
        for side in ("c2s", "s2c")
    )
    return asked, told


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_they_pass_as_they_are(path: Path) -> None:
    asked, told = said(path)
    server = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS)
    client = PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS)
    calls = server.receive(asked)
    passed = b""
    for call, method in zip(calls, CALLS, strict=True):
        assert isinstance(call, Head)
        assert isinstance(call.message, RequestHead)
        assert (call.message.service, call.message.method) == ("demo.Greeter:1.0", method)
        extra = call.message.extra
        assert isinstance(extra, BoltExtra)
        assert extra.dialect == DIALECTS[path.stem]
        passed += client.send(call)
    assert passed == asked
    answers = client.receive(told)
    back = b""
    statuses = []
    for answer in answers:
        assert isinstance(answer, Head)
        assert isinstance(answer.message, ResponseHead)
        statuses.append(answer.message.status)
        back += server.send(answer)
    assert back == told
    assert statuses.count(Status.OK) == 4
    assert statuses.count(Status.INTERNAL) == 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_another_id_keeps_the_crc_right(path: Path) -> None:
    asked, _ = said(path)
    first = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS).receive(asked)[0]
    assert isinstance(first, Head)
    client = PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS)
    moved = client.send(Head(77, first.message, first.data, end=True, origin=first.origin))
    again = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS).receive(moved)
    assert [frame.stream_id for frame in again if isinstance(frame, Head)] == [77]
    assert len(again) == 1
