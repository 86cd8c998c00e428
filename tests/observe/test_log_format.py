from __future__ import annotations

import json

import attrs
import pytest

from xproxy.model.message import RequestHead
from xproxy.observe.log_format import (
    DEFAULT_FIELDS,
    dropped_json,
    dropped_text,
    json_format,
    text_format,
)
from xproxy.observe.variables import VARIABLES, Record


def test_the_default_text(record: Record) -> None:
    assert text_format()(record) == (
        '2023-11-14T22:13:20.250Z [::1]:40000 http1 "GET reviews:9080/a?b=c" 503 unavailable'
        ' UF,URX 10/20B 250.0ms main[0] reviews-v1 127.0.0.1:9081 x2 "-"'
    )


def test_the_default_text_of_an_rpc(record: Record) -> None:
    record.request.head = RequestHead(service="com.example.Hello", method="say")
    assert '"say com.example.Hello"' in text_format()(record)


def test_a_hostile_value_stays_inside_its_quotes(record: Record) -> None:
    record.request.detail = 'x" forged\n"'
    line = text_format('"%detail%" %REQ(user-agent)%')(record)
    assert line == '"x\\x22 forged\\x0a\\x22" cu\\x22rl\\x5c\\x0a'


def test_the_default_json(record: Record) -> None:
    entry = json.loads(json_format()(record))
    assert list(entry) == list(DEFAULT_FIELDS)
    assert entry == {name: VARIABLES[name].read(record) for name in DEFAULT_FIELDS}


def test_json_takes_any_text(record: Record) -> None:
    record.request.detail = 'a"\n\u2028\udc80ä'
    line = json_format({"detail": "%detail%", "mixed": "<%detail%>"})(record)
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line)["detail"] == record.request.detail
    assert json.loads(line)["mixed"] == f"<{record.request.detail}>"


def test_a_request_without_a_response(record: Record) -> None:
    early = attrs.evolve(record, response=None)
    assert json.loads(json_format()(early))["response_code"] is None


def test_a_template_of_several_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="no line breaks"):
        text_format("a\nb")


def test_dropped_lines_are_said_in_the_same_format() -> None:
    assert "3" in dropped_text(3)
    assert json.loads(dropped_json(3)) == {"dropped_lines": 3}
