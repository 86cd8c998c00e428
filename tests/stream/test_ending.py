from __future__ import annotations

from xproxy.model.errors import StreamError
from xproxy.model.frames import Trailers
from xproxy.model.headers import NO_HEADERS
from xproxy.stream.ending import COMPLETE, GIVEN_UP, BodyEnding, Broke, Complete, GivenUp


def test_each_ending_says_what_belongs_to_it() -> None:
    trailers = Trailers(1, NO_HEADERS)
    error = StreamError("x")
    endings: list[BodyEnding] = [COMPLETE, Complete(trailers), Broke(error), GIVEN_UP]
    said: list[object] = []
    for how in endings:
        match how:
            case Complete(None):
                said.append("complete")
            case Complete(found):
                said.append(found)
            case Broke(found_error):
                said.append(found_error)
            case GivenUp():
                said.append("given up")
    assert said == ["complete", trailers, error, "given up"]
