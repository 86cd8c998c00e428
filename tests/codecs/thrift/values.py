"""Random structs, written by PyPI's thrift: what it writes is what our walkers must find the end of."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from thrift.protocol.TBinaryProtocol import TBinaryProtocol  # type: ignore[import-untyped]  # ships no types
from thrift.protocol.TCompactProtocol import TCompactProtocol  # type: ignore[import-untyped]  # as above
from thrift.protocol.TJSONProtocol import TJSONProtocol  # type: ignore[import-untyped]  # as above
from thrift.Thrift import TType  # type: ignore[import-untyped]  # as above
from thrift.transport.TTransport import TMemoryBuffer  # type: ignore[import-untyped]  # as above

Value = tuple[int, Any]
"""A type of Thrift's and a value of it. Any: it may be of all types."""

_PLAIN = (
    st.tuples(st.just(TType.BOOL), st.booleans()),
    st.tuples(st.just(TType.BYTE), st.integers(-128, 127)),
    st.tuples(st.just(TType.I16), st.integers(-(2**15), 2**15 - 1)),
    st.tuples(st.just(TType.I32), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just(TType.I64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(TType.DOUBLE), st.floats(allow_nan=False, allow_infinity=False)),
    st.tuples(st.just(TType.STRING), st.text(max_size=40).map(str.encode)),
)


def _of(element: st.SearchStrategy[Value]) -> st.SearchStrategy[list[Value]]:
    """Lists of values that all have the type of the first."""
    return st.lists(element, max_size=20).map(
        lambda values: [value for value in values if value[0] == values[0][0]]
    )


def _inner(children: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    fields = st.lists(st.tuples(st.integers(1, 2000), children), max_size=5)
    lists = _of(children)
    return st.one_of(
        st.tuples(st.just(TType.STRUCT), fields),
        st.tuples(st.sampled_from([TType.LIST, TType.SET]), lists),
        st.tuples(
            st.just(TType.MAP),
            st.tuples(_of(st.one_of(*_PLAIN)), lists).map(
                lambda both: list(zip(both[0], both[1], strict=False))
            ),
        ),
    )


VALUES: st.SearchStrategy[Value] = st.recursive(st.one_of(*_PLAIN), _inner, max_leaves=15)
STRUCTS = st.lists(st.tuples(st.integers(-30000, 30000), VALUES), max_size=6)
"""Fields of a struct: id and value."""

PROTOCOLS = {"binary": TBinaryProtocol, "compact": TCompactProtocol, "json": TJSONProtocol}


def write(fields: list[tuple[int, Value]], family: str) -> bytes:
    """Write a struct."""
    buffer = TMemoryBuffer()
    protocol = PROTOCOLS[family](buffer)
    # As the arguments of a call: a struct on its own has no place in the compact protocol's state.
    protocol.writeMessageBegin("m", 1, 0)
    start = len(buffer.getvalue())
    _struct(protocol, fields)
    data: bytes = buffer.getvalue()[start:]
    return data.removeprefix(b",")


def _struct(protocol: Any, fields: list[tuple[int, Value]]) -> None:  # Any: untyped library
    protocol.writeStructBegin("s")
    for number, (kind, value) in fields:
        protocol.writeFieldBegin("f", kind, number)
        _value(protocol, kind, value)
        protocol.writeFieldEnd()
    protocol.writeFieldStop()
    protocol.writeStructEnd()


def _value(protocol: Any, kind: int, value: Any) -> None:  # Any: untyped library, value of any type
    match kind:
        case TType.STRUCT:
            _struct(protocol, value)
        case TType.LIST | TType.SET:
            name = "List" if kind == TType.LIST else "Set"
            element = value[0][0] if value else TType.I32
            getattr(protocol, f"write{name}Begin")(element, len(value))
            for one in value:
                _value(protocol, *one)
            getattr(protocol, f"write{name}End")()
        case TType.MAP:
            types = (value[0][0][0], value[0][1][0]) if value else (TType.I32, TType.I32)
            protocol.writeMapBegin(*types, len(value))
            for key, one in value:
                _value(protocol, *key)
                _value(protocol, *one)
            protocol.writeMapEnd()
        case TType.BOOL:
            protocol.writeBool(value)
        case TType.BYTE:
            protocol.writeByte(value)
        case TType.I16:
            protocol.writeI16(value)
        case TType.I32:
            protocol.writeI32(value)
        case TType.I64:
            protocol.writeI64(value)
        case TType.DOUBLE:
            protocol.writeDouble(value)
        case _:
            protocol.writeBinary(value) if not isinstance(protocol, TJSONProtocol) else (
                protocol.writeString(value.decode())
            )
