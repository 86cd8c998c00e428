"""Messages between a supervisor and its workers."""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from xproxy.supervisor import messages
from xproxy.supervisor.messages import flag, number, pack, pair, receive, send, text, unpack

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = pair()
    with ours, theirs:
        yield ours, theirs


def test_a_message_arrives_whole_with_its_descriptors(ends: Ends) -> None:
    ours, theirs = ends
    reader, writer = os.pipe()
    send(ours, {"kind": "listening", "id": 7}, [writer])
    os.close(writer)
    heard = receive(theirs)
    assert heard is not None
    message, (found,) = heard
    assert message == {"kind": "listening", "id": 7}
    assert not os.get_inheritable(found)
    os.write(found, b"x")
    os.close(found)
    assert os.read(reader, 2) == b"x"
    os.close(reader)


def test_nothing_there_and_the_end(ends: Ends) -> None:
    ours, theirs = ends
    with pytest.raises(BlockingIOError):
        receive(theirs)
    ours.close()
    assert receive(theirs) is None


def test_what_was_said_before_an_end_amid_unread_messages_is_heard(ends: Ends) -> None:
    ours, theirs = ends
    send(theirs, {"kind": "never read"})
    send(ours, {"kind": "last"})
    ours.close()  # with something unread: the other end sees ECONNRESET first
    assert receive(theirs) == ({"kind": "last"}, [])
    assert receive(theirs) is None


@pytest.mark.parametrize(
    "data", [b"x", b"[]", b"{}", b'{"kind": 1}', b"\xff", b"[" * 60_000, b'{"kind": "a"'], ids=repr
)
def test_what_is_no_message(data: bytes, ends: Ends) -> None:
    ours, theirs = ends
    with pytest.raises(ValueError):
        unpack(data)
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(ours, [data], [0])
    with pytest.raises(ValueError):
        receive(theirs)
    assert len(os.listdir("/proc/self/fd")) == before, "its descriptor was closed"


def test_too_many_descriptors_are_refused_and_none_is_kept(ends: Ends) -> None:
    ours, theirs = ends
    before = len(os.listdir("/proc/self/fd"))
    many = array.array("i", [0] * (messages.MOST_DESCRIPTORS + 5))
    ours.sendmsg([b'{"kind":"a"}'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
    with pytest.raises(ValueError, match="whole"):
        receive(theirs)
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ValueError, match="limit"):
        pack({"kind": "a", "b": "x" * messages.MOST_BYTES})


def test_fields() -> None:
    message = {"kind": "a", "text": "b", "number": 3, "flag": True, "negative": -1}
    assert (text(message, "text"), number(message, "number")) == ("b", 3)
    assert flag(message, "flag")
    assert not flag(message, "number")
    assert text(message, "none", "c") == "c"
    for read, name in ((text, "number"), (number, "text"), (number, "flag"), (number, "negative")):
        with pytest.raises(ValueError, match=name):
            read(message, name)
    with pytest.raises(ValueError):
        text(message, "none")


def test_close_all() -> None:
    reader, writer = os.pipe()
    messages.close_all([reader, writer])
    with contextlib.suppress(OSError):
        os.fstat(reader)
        raise AssertionError("still open")
