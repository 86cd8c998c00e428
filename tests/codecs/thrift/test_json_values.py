"""JSON's values: each type both ways, and what is no value of its type."""

from __future__ import annotations

import base64

import pytest

from xproxy.codecs.slices import at_once
from xproxy.codecs.thrift.interface import Shape
from xproxy.codecs.thrift.json_values import MAX_JSON_BYTES, parsed, to_json, write_struct
from xproxy.codecs.thrift.values import BinaryReader, BinaryWriter, CompactReader

TEXT = Shape(11)
BYTES = Shape(11, binary=True)


def binary_of(text: str, shape: Shape | None = None) -> bytes:
    writer = BinaryWriter()
    at_once(write_struct(writer, parsed(text.encode()), shape))
    return bytes(writer.out)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"1":{"tf":1},"2":{"tf":0}}',
        '{"-3":{"i8":-128},"1":{"i16":-32768},"2":{"i32":2147483647}}',
        '{"1":{"i64":-9223372036854775808}}',
        '{"1":{"dbl":1.5},"2":{"dbl":"NaN"},"3":{"dbl":"Infinity"},"4":{"dbl":"-Infinity"}}',
        '{"1":{"dbl":-1.5e+300}}',
        '{"1":{"rec":{"2":{"rec":{}}}}}',
        '{"1":{"lst":["i32",3,1,2,3]},"2":{"set":["tf",2,1,0]},"3":{"lst":["lst",1,["i8",0]]}}',
        '{"1":{"map":["i32","dbl",2,{"-1":0.5,"7":1.0}]},"2":{"map":["tf","i8",1,{"1":2}]}}',
        '{"1":{"map":["dbl","rec",1,{"0.5":{}}]}}',
        '{"1":{"uid":"00112233-4455-6677-8899-aabbccddeeff"}}',
    ],
)
def test_there_and_back(text: str) -> None:
    assert at_once(to_json(BinaryReader(binary_of(text)), None, 1000)).decode() == text


def test_strings_take_an_interface() -> None:
    with pytest.raises(ValueError, match="only the interface"):
        binary_of('{"1":{"str":"x"}}')
    with pytest.raises(ValueError, match="only the interface"):
        at_once(to_json(BinaryReader(b"\x0b\0\1\0\0\0\1x\0"), None, 1000))
    with pytest.raises(ValueError, match="only the interface"):  # it says another type
        binary_of('{"1":{"str":"x"}}', Shape(12, fields={1: ("x", Shape(8))}))


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ('{"str":"ü\\n\\"𝄞"}', TEXT),
        ('{"str":"/wA="}', BYTES),
        ('{"lst":["str",2,"a",""]}', Shape(15, element=TEXT)),
        ('{"map":["str","str",1,{"a":"/w=="}]}', Shape(13, key=TEXT, element=BYTES)),
        ('{"map":["str","i32",0,{}]}', Shape(13, key=TEXT, element=Shape(8))),
        ('{"rec":{"1":{"str":"x"}}}', Shape(12, fields={1: ("y", TEXT)})),
    ],
)
def test_strings_there_and_back(field: str, shape: Shape) -> None:
    text, outer = f'{{"1":{field}}}', Shape(12, fields={1: ("x", shape)})
    assert at_once(to_json(BinaryReader(binary_of(text, outer)), outer, 1000)).decode() == text


def test_control_characters_as_they_are_and_bytes_without_padding() -> None:
    outer = Shape(12, fields={1: ("x", TEXT), 2: ("y", BYTES)})
    assert binary_of('{"1":{"str":"\x01"}}', outer)[-2:] == b"\x01\0"
    unpadded = base64.b64encode(b"abcd").decode().rstrip("=")
    assert binary_of(f'{{"2":{{"str":"{unpadded}"}}}}', outer)[-5:] == b"abcd\0"


def test_an_empty_map_of_the_compact_protocol_does_not_say_of_what() -> None:
    empty = b"\x1b\0\0"
    assert at_once(to_json(CompactReader(empty), None, 100)) == b'{"1":{"map":["str","str",0,{}]}}'
    shape = Shape(12, fields={1: ("x", Shape(13, key=Shape(8), element=Shape(10)))})
    assert at_once(to_json(CompactReader(empty), shape, 100)) == b'{"1":{"map":["i32","i64",0,{}]}}'


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{} ",
        '{"x":{"tf":1}}',
        '{"32768":{"tf":1}}',
        '{"1":5}',
        '{"1":{}}',
        '{"1":{"tf":1,"i8":1}}',
        '{"1":{"nil":1}}',
        '{"1":{"tf":2}}',
        '{"1":{"i8":128}}',
        '{"1":{"i32":2147483648}}',
        '{"1":{"i32":1.0}}',
        '{"1":{"i32":true}}',
        '{"1":{"i32":"x"}}',
        '{"1":{"dbl":"x"}}',
        '{"1":{"dbl":[]}}',
        '{"1":{"rec":[]}}',
        '{"1":{"lst":[]}}',
        '{"1":{"lst":{}}}',
        '{"1":{"lst":["i32",2,1]}}',
        '{"1":{"lst":["i32",true,1]}}',
        '{"1":{"lst":[5,1,1]}}',
        '{"1":{"map":["i32","i32",1]}}',
        '{"1":{"map":["i32","i32",2,{"1":1}]}}',
        '{"1":{"map":["rec","i32",1,{"1":1}]}}',
        '{"1":{"uid":"x"}}',
        '{"1":{"i32":' + "9" * 5000 + "}}",
        '{"1":nonsense}',
        '{"1":{"i32":1},"1":{"i32":2}}',
        '{"1":{"map":["i32","i32",2,{"1":1,"1":2}]}}',
        '{"1":{"lst":' * 40 + "}}" * 40,
    ],
)
def test_what_is_no_value_of_its_type(text: str) -> None:
    with pytest.raises(ValueError):
        binary_of(text)


def test_bounds() -> None:
    with pytest.raises(ValueError, match="limit"):
        parsed(b"{" + b" " * MAX_JSON_BYTES + b"}")
    with pytest.raises(ValueError, match="too long"):
        at_once(to_json(BinaryReader(b"\x08\0\1\0\0\0\1\0"), None, 10))
    with pytest.raises(ValueError, match="no scalars"):
        at_once(to_json(BinaryReader(b"\x0d\0\1\x0c\x08\0\0\0\1\0\0\0\0\1\0"), None, 1000))
    with pytest.raises(ValueError):  # no UTF-8
        at_once(
            to_json(
                BinaryReader(b"\x0b\0\1\0\0\0\1\xff\0"), Shape(12, fields={1: ("x", TEXT)}), 100
            )
        )
