"""Bodies written anew: what was changed is, all else is as it came."""

from __future__ import annotations

import attrs
import pytest

from xproxy.codecs.dubbo.attachments import write_map
from xproxy.codecs.dubbo.bodies import ATTACHABLE
from xproxy.codecs.dubbo.codec import DubboCodec
from xproxy.codecs.dubbo.heads import Answer, Call
from xproxy.codecs.dubbo.prefix import Prefix, make_prefix
from xproxy.codecs.dubbo.wire import DubboWire
from xproxy.codecs.hessian2 import write_binary
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Head
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

WIRE = DubboWire()
GENERIC = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"
OBJECT = b"C\x01x\x91\x01a\x60\x90"


def message(flag: int, status: int, body: bytes) -> bytes:
    return b"\xda\xbb" + bytes((flag, status)) + bytes(7) + b"\x01" + len(body).to_bytes(4) + body


def read(raw: bytes, role: Role = Role.SERVER) -> Head:
    (frame,) = DubboCodec(role, DEFAULT_LIMITS, strict=False).receive(raw)
    assert isinstance(frame, Head)
    return frame


def asked(body: bytes, flag: int = 0xC2) -> tuple[RequestHead, bytes]:
    frame = read(message(flag, 0, body))
    assert isinstance(frame.message, RequestHead)
    return frame.message, frame.data


def sent(head: RequestHead, data: bytes) -> bytes:
    """Write a request and return its body."""
    return WIRE.request(1, head, data)[16:]


@pytest.fixture(params=["Ljava/lang/String;", "Lx;", "[B"])
def prefix(request: pytest.FixtureRequest) -> Prefix:
    return make_prefix("s", "m", request.param, version="1.0", release="2.0.2")


def argument(prefix: Prefix) -> bytes:
    return {"Lx;": OBJECT, "[B": b"\x23abc"}.get(prefix.types, b"\x01a")


PAIRS = [("path", "s"), ("interface", "s"), ("version", "1.0"), ("group", "blue")]


def test_headers_change_in_the_map_only(prefix: Prefix) -> None:
    front = prefix.block + argument(prefix)
    head, data = asked(front + write_map(PAIRS))
    assert list(head.headers) == PAIRS[2:]
    added = head.adding((("trace", "t1"),)).adding((("more", "x"),))
    assert sent(added, data) == front + write_map([*PAIRS, ("trace", "t1"), ("more", "x")])
    again = head.adding((("group", "red"),))  # a second one: a map has no two
    assert sent(again, data) == front + write_map([*PAIRS[:3], ("group", "blue, red")])
    changed = head.with_headers(head.headers.set("group", "red").add("k", "v"))
    assert sent(changed, data) == front + write_map([*PAIRS[:3], ("group", "red"), ("k", "v")])
    fewer = head.with_headers(head.headers.remove("group"))
    assert sent(fewer, data) == front + write_map(PAIRS[:3])
    assert sent(attrs.evolve(head, extra=head.extra), data) == front + write_map(PAIRS)


def test_the_service_changes_wherever_it_is_named(prefix: Prefix) -> None:
    head, data = asked(prefix.block + argument(prefix) + write_map(PAIRS))
    moved = make_prefix("t", "m", prefix.types, version="1.0")
    wanted = [("path", "t"), ("interface", "t"), *PAIRS[2:]]
    body = sent(attrs.evolve(head, service="t"), data)
    assert body == moved.block + argument(prefix) + write_map(wanted)
    got, _ = asked(body)
    assert (got.service, got.headers) == ("t", head.headers)


def test_the_version_changes_in_both_places(prefix: Prefix) -> None:
    head, data = asked(prefix.block + argument(prefix) + write_map(PAIRS))
    newer = head.with_headers(head.headers.set("version", "2.0"))
    body = sent(newer, data)
    assert body.startswith(make_prefix("s", "m", prefix.types, version="2.0").block)
    assert asked(body)[0].headers == newer.headers
    without = head.with_headers(head.headers.remove("version"))
    assert sent(without, data).startswith(make_prefix("s", "m", prefix.types, version="").block)


def test_the_method_changes_in_the_prefix(prefix: Prefix) -> None:
    head, data = asked(prefix.block + argument(prefix) + write_map(PAIRS))
    body = sent(attrs.evolve(head, method="n"), data)
    other = make_prefix("s", "n", prefix.types, version="1.0")
    assert body == other.block + argument(prefix) + write_map(PAIRS)


def test_a_deadline_becomes_the_timeout(prefix: Prefix) -> None:
    head, data = asked(prefix.block + argument(prefix) + write_map((("timeout", "3000"),)))
    assert head.deadline is None
    for seconds, text in ((0.25, "250"), (0.0, "1"), (1e9, str(2**31 - 1))):
        got, _ = asked(sent(attrs.evolve(head, deadline=seconds), data))
        assert got.headers.get("timeout") == text
    both = head.adding((("k", "v"),))
    got, _ = asked(sent(attrs.evolve(both, deadline=1.0), data))
    assert (got.headers.get("timeout"), got.headers.get("k")) == ("1000", "v")


def test_a_dubbox_mark_and_an_old_release_are_kept() -> None:
    old = make_prefix("s", "m", "I", release="2.8.4", mark=b"\x8f", version=None)
    head, data = asked(old.block + b"\x90HZ")
    new = make_prefix("s", "n", "I", release="2.8.4", mark=b"\x8f", version=None)
    assert sent(attrs.evolve(head, method="n"), data) == new.block + b"\x90HZ"


def test_a_generic_call_gets_its_other_method_as_an_argument() -> None:
    generic = make_prefix("s", "$invoke", GENERIC)
    rest = b"\x70\x07[string\x70\x07[object" + write_map((("generic", "true"),))
    head, data = asked(generic.block + b"\x03say" + rest)
    assert sent(attrs.evolve(head, method="shout"), data) == generic.block + b"\x05shout" + rest
    body = sent(attrs.evolve(head, method="shout", headers=head.headers.add("k", "v")), data)
    got, _ = asked(body)
    assert (got.method, got.headers.get("k")) == ("shout", "v")
    with pytest.raises(LocalProtocolError, match="generic"):
        sent(attrs.evolve(head, method="shout"), b"N")


def test_another_body_takes_the_place_with_its_attachments_or_without() -> None:
    prefix = make_prefix("s", "m", "Lx;")
    head, _ = asked(prefix.block + OBJECT + write_map(PAIRS))
    more = head.with_headers(head.headers.add("k", "v"))
    wanted = write_map([*PAIRS, ("k", "v")])
    for data in (b"\x01b", b"\x01b" + write_map(PAIRS), b"\x01bHZ"):
        assert sent(head, data) == prefix.block + data
        assert sent(more, data) == prefix.block + b"\x01b" + wanted
    with pytest.raises(LocalProtocolError):
        sent(more, b"")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'"2.0.2"\n', ("", "", None)),
        (b'"2.0.2"\n"a.B"\n"1.0"\n"say"\n""\n', ("a.B", "say", "1.0")),
    ],
)
def test_what_is_not_understood_is_passed_on_and_not_changed(
    body: bytes, shown: tuple[str, str, str | None]
) -> None:
    head, data = asked(body, 0xC6)
    assert (head.service, head.method, head.headers.get("version")) == shown
    assert WIRE.request(1, attrs.evolve(head, deadline=1.0), data) == message(0xC6, 0, data)
    for changed in (
        head.with_headers(Headers([("a", "b")])),
        attrs.evolve(head, service="s"),
        attrs.evolve(head, method="m"),
    ):
        with pytest.raises(LocalProtocolError, match="serialisation 6"):
            sent(changed, data)
    missing = make_prefix("s", "m", "II")
    head, data = asked(missing.block + b"\x90")
    assert sent(attrs.evolve(head, method="n"), data)
    with pytest.raises(LocalProtocolError, match="not changed"):
        sent(head.with_headers(Headers([("a", "b")])), data)
    with pytest.raises(LocalProtocolError, match="not changed"):
        sent(attrs.evolve(head, service="t"), data)


def test_a_new_request_is_a_byte_array_for_every_java_to_read() -> None:
    headers = Headers([("version", "1.0"), ("path", "evil"), ("k", "v")])
    head = RequestHead(service="s", method="m", headers=headers, deadline=2.0)
    wanted = [
        ("path", "s"),
        ("interface", "s"),
        ("version", "1.0"),
        ("k", "v"),
        ("timeout", "2000"),
    ]
    assert sent(head, b"data") == (
        make_prefix("s", "m", "[B", version="1.0").block + b"\x24data" + write_map(wanted)
    )


def test_a_request_with_arguments_of_ones_own() -> None:
    prefix = make_prefix("s", "$echo", "Ljava/lang/Object;")
    head, data = asked(prefix.block + b"NHZ")
    assert isinstance(head.extra, Call)
    assert sent(head, data) == prefix.block + b"NHZ"


# ---- answers


def answered(body: bytes, status: int = 20, flag: int = 2) -> tuple[ResponseHead, bytes]:
    frame = read(message(flag, status, body), Role.CLIENT)
    assert isinstance(frame.message, ResponseHead)
    assert isinstance(frame.message.extra, Answer)
    return frame.message, frame.data


def replied(head: ResponseHead, data: bytes, dialect: int = 2 | ATTACHABLE) -> bytes:
    """Write an answer and return its body."""
    return WIRE.response(1, head, data, dialect)[16:]


NEW = Headers([("a", "b")])
NEW_MAP = write_map((("a", "b"),))


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b"\x91\x01x", b"\x94\x01x" + NEW_MAP),
        (b"\x92", b"\x95" + NEW_MAP),
        (b"\x90\x01x", b"\x93\x01x" + NEW_MAP),
        (b"\x91\x21x", b"\x94\x21x" + NEW_MAP),
        (b"\x94\x01xHZ", b"\x94\x01x" + NEW_MAP),
        (b"\x95HZ", b"\x95" + NEW_MAP),
        (b"\x94" + OBJECT + b"HZ", b"\x94" + OBJECT + NEW_MAP),
        (b"\x94\x21xHZ", b"\x94\x21x" + NEW_MAP),
        (b"N", b"N"),
        (b"", b""),
    ],
)
def test_new_headers_of_an_answer(body: bytes, changed: bytes) -> None:
    head, data = answered(body)
    assert replied(head, data) == body
    assert replied(attrs.evolve(head, headers=NEW), data) == changed
    if body[:1] in {b"\x90", b"\x91", b"\x92"}:
        assert replied(attrs.evolve(head, headers=NEW), data, 2) == body  # an old caller


def test_headers_of_an_answer_are_removed() -> None:
    head, data = answered(
        b"\x94\x01x"
        + write_map(
            (
                ("a", "b"),
                ("c", "d"),
            )
        )
    )
    fewer = attrs.evolve(head, headers=head.headers.remove("a"))
    assert replied(fewer, data) == b"\x94\x01x" + write_map((("c", "d"),))


def test_errors_and_other_serialisations_have_no_place_for_headers() -> None:
    for status, flag in ((80, 2), (20, 6)):
        head, data = answered(b"\x91\x01x", status, flag)
        more = attrs.evolve(head, headers=NEW)
        assert WIRE.response(1, more, data, 2 | ATTACHABLE) == message(flag, status, data)


def test_an_answers_status_can_be_changed() -> None:
    head, data = answered(b"\x91\x01x")
    failed = attrs.evolve(head, status=Status.UNAVAILABLE, native_status=None)
    got, _ = answered(replied(failed, b""), 80)
    assert got.native_status == 80
    again = attrs.evolve(head, native_status=None)
    assert WIRE.response(1, again, data, 2) == message(2, 20, data)


def test_an_answers_byte_array_is_replaced() -> None:
    head, _ = answered(b"\x91\x21x")
    assert replied(head, b"y" * 2000) == b"\x91" + write_binary(b"y" * 2000)
