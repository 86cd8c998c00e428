from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.model.errors import Unsupported
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, Target
from xproxy.model.status import Status
from xproxy.routing.forwards import MOST, count_forward
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import ConnectionFacts, Request, StreamControl


def asked(facts: ConnectionFacts, stream: StreamControl, method: str, *values: str) -> Request:
    headers = Headers(("Max-Forwards", value) for value in values)
    head = RequestHead(service="a", method=method, headers=headers, extra=Target(path="/"))
    return Request(head, BytesBody(), facts, stream, 0.0)


@pytest.mark.parametrize("value", ["0", "000"])
async def test_at_zero_options_is_answered_here(
    facts: ConnectionFacts, stream: StreamControl, value: str
) -> None:
    request = asked(facts, stream, "OPTIONS", value)
    response = count_forward(request)
    assert response is not None
    assert response.head.status is Status.OK
    assert not response.head.headers
    assert isinstance(response.body, BytesBody)
    assert response.body.data == b""
    assert request.record.local


def test_at_zero_a_trace_is_not_echoed(facts: ConnectionFacts, stream: StreamControl) -> None:
    # It would show the client what proxies on the way have added.
    with pytest.raises(Unsupported):
        count_forward(asked(facts, stream, "TRACE", "0"))


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
@pytest.mark.parametrize(
    ("value", "left"), [("1", "0"), ("10", "9"), ("007", "6"), ("9" * 5000, str(MOST))]
)
def test_above_zero_it_is_one_less(
    facts: ConnectionFacts, stream: StreamControl, method: str, value: str, left: str
) -> None:
    request = asked(facts, stream, method, value)
    assert count_forward(request) is None
    assert request.head.headers.pairs == (("Max-Forwards", left),)


@given(st.text(max_size=5).filter(lambda text: not (text.isascii() and text.isdigit())))
def test_what_is_no_number_is_ignored(value: str) -> None:
    for values in ((value,), ("1", "0")):
        request = asked(None, None, "OPTIONS", *values)  # type: ignore[arg-type]  # neither is looked at
        head = request.head
        assert count_forward(request) is None
        assert request.head is head


def test_without_the_field_nothing_changes(facts: ConnectionFacts, stream: StreamControl) -> None:
    request = asked(facts, stream, "OPTIONS")
    head = request.head
    assert count_forward(request) is None
    assert request.head is head
