"""What is written of a connection: a closed set of classes comes back, each field what it may be."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator

import attrs
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.connection.standing import Moment
from xproxy.connection.wire import Parts
from xproxy.migration.packing import (
    KNOWN,
    MOST_COMMON,
    MOST_COMMON_BYTES,
    Downstream,
    Upstream,
    pack,
    read,
    unpack,
)
from xproxy.model.address import Address
from xproxy.model.limits import Limits
from xproxy.proxy.adopting import Described
from xproxy.upstream.moving import Handed

PARTS = Parts(codec=b"codec", stream=b"", unsent=b"rest")
HERE = Address("127.0.0.1", 80)
DESCRIBED = Described(
    id=7,
    age=1.5,
    listener="edge",
    address=HERE,
    chain="main",
    codec="http1",
    options=(("strict", True), ("names", ("a", "b"))),
    limits=Limits(max_headers=7),
    peer=Address("::1", 4711),
    local=Address("", 0, "/run/x.sock"),
)


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as found:
        yield found


def test_a_connection_comes_back_with_its_socket(sock: socket.socket) -> None:
    value = Downstream(described=DESCRIBED, moment=Moment(parts=PARTS, sock=sock, left=2.5))
    data, sockets = pack(value)
    assert sockets == [sock]
    found = unpack(data, sockets)
    assert found == value
    assert isinstance(found, Downstream)
    assert found.moment.sock is sock
    assert found.moment.patience == math.inf


def test_an_upstream_connection_comes_back(sock: socket.socket) -> None:
    handed = Handed(protocol="http1", moment=Moment(parts=PARTS, sock=sock), kind=("a", 1, None))
    value = Upstream(cluster="web", address=HERE, settings=b"s" * 16, handed=handed)
    data, sockets = pack(value)
    assert unpack(data, sockets) == value


def test_without_its_sockets_it_can_be_looked_at(sock: socket.socket) -> None:
    data, _ = pack(Downstream(described=DESCRIBED, moment=Moment(parts=PARTS, sock=sock)))
    found = unpack(data, missing=True)
    assert isinstance(found, Downstream)
    assert found.moment.sock is None
    with pytest.raises(ValueError, match="did not come"):
        unpack(data)


def test_sockets_and_what_is_said_of_them_agree(sock: socket.socket) -> None:
    data, _ = pack(Downstream(described=DESCRIBED, moment=Moment(parts=PARTS)))
    with pytest.raises(ValueError, match="0 sockets, and 1 came"):
        unpack(data, [sock])
    twice = msgpack.packb([0, [2, 0], [2, 0]])
    with pytest.raises(ValueError, match="did not come"):
        read(twice, [sock])


def test_what_is_at_its_default_is_not_written() -> None:
    data, _ = pack(Address("a"))
    assert msgpack.unpackb(data) == [1, "Address", {"host": "a"}]
    # A flag is no number, though they are equal.
    data, _ = pack(Address("a", False))
    assert msgpack.unpackb(data) == [1, "Address", {"host": "a", "port": False}]
    with pytest.raises(ValueError, match="port that is none"):
        read(data)


@attrs.frozen
class Unknown:
    value: object = None


@pytest.mark.parametrize(
    "value",
    [
        Unknown(),
        {},
        [],
        object(),
        (1, [2]),
        Handed(protocol="x", moment=Moment(parts=PARTS), kind=Unknown()),
    ],
)
def test_what_is_not_known_is_not_written(value: object) -> None:
    with pytest.raises(ValueError, match="cannot be written down"):
        pack(value)


def test_what_is_too_deep_or_too_long_is_not_written() -> None:
    value: object = None
    for _ in range(100):
        value = (value,)
    with pytest.raises(ValueError, match="too deep"):
        pack(value)
    with pytest.raises(ValueError, match="limit"):
        pack(bytes(32 * 1024 * 1024 + 1))
    with pytest.raises(ValueError, match="cannot be written down"):
        pack(2**70)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([1, "Nothing", {}], "unknown 'Nothing'"),
        ([1, "Address", {}], "lacks host"),
        ([1, "Address", {"host": 7}], "host that is none"),
        ([1, "Address", {"host": "a", "more": 7}], "unknown field 'more'"),
        ([1, "Address", {"host": None}], "host that is none"),
        ([1, "Address", []], "unknown 'Address'"),
        ([1, "Moment", {"parts": [1, "Address", {"host": "a"}]}], "parts that is none"),
        ([1, "Moment", {"left": float("nan")}], "left that is none"),
        ([2, 0], "did not come"),
        ([2, -1], "did not come"),
        ([3], "nothing was written as"),
        ([], "nothing was written as"),
        ({"a": 1}, "nothing was written as"),
        ([1, 7, {}], "nothing was written as"),
        ([1, "__class__", {}], "unknown"),
    ],
)
def test_what_was_not_written_here_is_refused(found: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(msgpack.packb(found))


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x91" * 3000, msgpack.packb(msgpack.ExtType(1, b""))]
)
def test_what_is_no_msgpack_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="nothing"):
        read(data)


def test_a_connection_is_asked_for() -> None:
    data, _ = pack(HERE)
    with pytest.raises(ValueError, match="no connection"):
        unpack(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read(data)
    except ValueError:
        return


_PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
)


@given(st.recursive(_PLAIN, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=20))
def test_plain_values_come_back(value: object) -> None:
    data, _ = pack(value)
    found = read(data)
    assert (type(found), found) == (type(value), value)


def test_names_are_not_used_twice() -> None:
    names = [cls.__name__ for cls in KNOWN]
    assert len(set(names)) == len(names)


def test_what_connections_have_in_common_is_read_once() -> None:
    data, _ = pack(DESCRIBED)
    other, _ = pack(attrs.evolve(DESCRIBED, id=8))
    found, again = read(data), read(other)
    assert isinstance(found, Described)
    assert isinstance(again, Described)
    assert (found, again.id) == (DESCRIBED, 8)
    assert found.limits is again.limits
    assert found.options is again.options


def test_what_is_common_is_that_of_each_also_where_it_differs_in_a_flag_only() -> None:
    for options in ((("strict", True),), (("strict", 1),), (), (("strict", True),)):
        data, _ = pack(attrs.evolve(DESCRIBED, options=options))
        found = read(data)
        assert isinstance(found, Described)
        assert repr(found.options) == repr(options)


def test_more_than_is_remembered_is_read_as_well() -> None:
    for number in (*range(1, MOST_COMMON + 3), 1):
        described = attrs.evolve(DESCRIBED, limits=Limits(max_headers=number))
        data, _ = pack(described)
        assert read(data) == described
    long = attrs.evolve(DESCRIBED, options=(("names", "x" * MOST_COMMON_BYTES),))
    assert read(pack(long)[0]) == long


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"limits": [1, "Limits", {"max_headers": "7"}]}, "max_headers that is none"),
        ({"limits": [1, "Address", {"host": "a"}]}, "Described has a limits that is none"),
        ({"limits": None}, "Described has a limits that is none"),
        ({"options": [0, [0, 7, 7]]}, "Described has a options that is none"),
        ({"options": [0, [0, "a", [2, 0]]]}, "did not come"),
        ({"options": [3]}, "nothing was written as"),
    ],
)
def test_what_is_common_is_believed_no_more(changed: dict[str, object], why: str) -> None:
    data, _ = pack(DESCRIBED)
    kind, name, fields = msgpack.unpackb(data)
    for _ in range(2):
        with pytest.raises(ValueError, match=why), socket.socket() as sock:
            read(msgpack.packb([kind, name, fields | changed]), [sock])


def test_what_is_common_holds_no_socket(sock: socket.socket) -> None:
    with pytest.raises(ValueError, match="holds a socket"):
        pack(attrs.evolve(DESCRIBED, options=(("sock", sock),)))
