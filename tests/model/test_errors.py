from __future__ import annotations

import pytest

from xproxy.model import errors
from xproxy.model.errors import StreamError
from xproxy.model.status import Status

STREAM_ERRORS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, StreamError) and value is not StreamError
]


@pytest.mark.parametrize("kind", STREAM_ERRORS, ids=lambda kind: kind.__name__)
def test_each_stream_error_says_what_the_wire_and_the_log_need(kind: type[StreamError]) -> None:
    error = kind("why")
    assert error.detail == str(error) == "why"
    assert error.status is not Status.OK
    assert error.flag
    assert kind.__doc__


def test_only_failures_of_the_upstream_may_be_retried() -> None:
    retriable = {kind.__name__ for kind in STREAM_ERRORS if kind.condition}
    assert retriable == {
        "ConnectFailed",
        "DeadlineExceeded",
        "NoHealthyEndpoint",
        "UpstreamProtocolError",
        "UpstreamRefused",
        "UpstreamReset",
    }


@pytest.mark.parametrize("kind", STREAM_ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_again_says_the_same_and_knows_no_frame(kind: type[StreamError]) -> None:
    with pytest.raises(kind) as raised:
        raise kind("why")
    error = raised.value
    error.status = Status.CANCELLED
    again = error.again()
    assert type(again) is kind
    assert again is not error
    assert (again.args, vars(again)) == (error.args, vars(error))
    assert (again.__traceback__, again.__context__, again.__cause__) == (None, None, None)
