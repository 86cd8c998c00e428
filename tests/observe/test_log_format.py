from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.secrets import DEFAULT_SECRETS, SecretNames
from xproxy.model.status import Status
from xproxy.observe.log_format import (
    DEFAULT_FIELDS,
    _is_plain,
    _told,
    dropped_json,
    dropped_text,
    json_format,
    text_format,
)
from xproxy.observe.template import clean_line
from xproxy.observe.variables import VARIABLES, Moment


def test_the_default_text(moment: Moment) -> None:
    assert text_format()(moment) == (
        '2023-11-14T22:13:20.250Z [::1]:40000 http1 "GET reviews:9080/a?b=c" 503 unavailable'
        ' UF,URX 10/20B 250.0ms main[0] reviews-v1 127.0.0.1:9081 x2 "-"'
    )


def test_the_default_text_of_an_rpc(moment: Moment) -> None:
    moment.request.head = RequestHead(service="com.example.Hello", method="say")
    assert '"say com.example.Hello"' in text_format()(moment)


def test_a_hostile_value_stays_inside_its_quotes(moment: Moment) -> None:
    moment.request.record.detail = 'x" forged\n"'
    line = text_format('"%detail%" %REQ(user-agent)%')(moment)
    assert line == '"x\\x22 forged\\x0a\\x22" cu\\x22rl\\x5c\\x0a'


def test_the_default_json(moment: Moment) -> None:
    entry = json.loads(json_format()(moment))
    assert list(entry) == list(DEFAULT_FIELDS)
    assert entry == {name: VARIABLES[name].read(moment) for name in DEFAULT_FIELDS}


def test_json_takes_any_text(moment: Moment) -> None:
    moment.request.record.detail = 'a"\n\u2028\udc80ä'
    line = json_format({"detail": "%detail%", "mixed": "<%detail%>"})(moment)
    line.encode()  # it is text
    assert "ä" in line
    assert not {"\n", "\u2028", "\udc80"} & set(line)
    assert "\n" not in line
    assert json.loads(line)["detail"] == moment.request.record.detail
    assert json.loads(line)["mixed"] == f"<{moment.request.record.detail}>"


def test_a_request_without_a_response(moment: Moment) -> None:
    early = attrs.evolve(moment, response=None)
    assert json.loads(json_format()(early))["response_code"] is None


def test_a_template_of_several_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="no line breaks"):
        text_format("a\nb")


def test_dropped_lines_are_said_in_the_same_format() -> None:
    assert "3" in dropped_text(3)
    assert json.loads(dropped_json(3)) == {"dropped_lines": 3}


@pytest.mark.parametrize(
    ("wire", "shown"),
    [
        ("/caf\u00c3\u00a9", "/café"),  # UTF-8 as HTTP codecs hold it
        ("/caf\u00e9", "/café"),  # Latin-1
        ("日本", "日本"),  # as RPC codecs hold it
        ("\u00ff\u00fe", "\u00ff\u00fe"),
    ],
)
def test_what_was_sent_as_text_is_text(moment: Moment, wire: str, shown: str) -> None:
    moment.request.record.detail = wire
    assert json.loads(json_format({"d": "%detail%"})(moment)) == {"d": shown}
    assert text_format("%detail%")(moment) == shown


def test_a_value_has_a_bound(moment: Moment) -> None:
    moment.request.record.detail = "x" * 100
    assert text_format("%detail%|%detail:3%", 20)(moment) == "x" * 20 + "…|xxx"
    assert json.loads(json_format({"d": "%detail%"}, 20)(moment))["d"] == "x" * 20 + "…"
    moment.request.record.detail = "\u00c3\u00a9" * 100  # is not cut in the middle of a character
    assert text_format("%detail%", 21)(moment) == "é" * 10 + "…"


def test_the_secrets_of_a_redirect_are_not_told(moment: Moment) -> None:
    where = "https://a.test/back?token=s3cret&page=1#access_token=s3cret"
    head = ResponseHead(
        status=Status.OK, native_status=302, headers=Headers((("location", where),))
    )
    moment = attrs.evolve(moment, response=head)
    shown = text_format("%RESP(location)%")(moment)
    assert shown == "https://a.test/back?token=[redacted]&page=1#access_token=[redacted]"
    assert "s3cret" not in json_format({"a": "%RESP(Location)%"})(moment)


def test_secrets_are_not_told(moment: Moment) -> None:
    head = RequestHead(
        service="a",
        method="GET",
        headers=Headers(
            (
                ("Authorization", "Bearer s3cret"),
                ("X-AuthToken", "s3cret"),
                ("referer", "https://u:s3cret@a/?token=s3cret&page=1"),
                ("x-plain", "shown"),
            )
        ),
        extra=Target(path="/x?access_token=s3cret&b=1"),
    )
    moment.request.head = head
    wanted = "%path% %target% %REQ(:path)% %REQ(authorization)% %REQ(x-authtoken)% %REQ(referer)% "
    wanted += "%REQ(x-plain)% %REQ(cookie)% %REQ(x-plain?authorization)%"
    line = text_format(wanted)(moment)
    assert "s3cret" not in line
    assert line == (
        "/x?access_token=[redacted]&b=1 a/x?access_token=[redacted]&b=1"
        " /x?access_token=[redacted]&b=1 [redacted] [redacted]"
        " https://[redacted]@a/?token=[redacted]&page=1 shown - [redacted]"
    )
    assert "s3cret" not in json_format({"a": wanted, "b": "%REQ(authorization)%"})(moment)
    names = SecretNames(never=("authorization",), also=("x-plain",))
    shown = text_format("%REQ(authorization)% %REQ(x-plain)%", 100, names)
    assert shown(moment) == "Bearer s3cret [redacted]"


@given(st.text(st.characters(exclude_categories=())) | st.text('aZ0_./:[] -=@?&\n"\\'))
def test_what_is_taken_as_it_is_has_nothing_to_be_cleaned(value: str) -> None:
    if _is_plain(value):
        assert clean_line(_told(value, 2048, DEFAULT_SECRETS)) == value
