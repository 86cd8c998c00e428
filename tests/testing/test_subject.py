"""What the kit finds out about a codec before it begins."""

from __future__ import annotations

import pytest

from tests.testing.broken import Broken, caught
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Frame
from xproxy.model.message import RequestHead
from xproxy.model.traits import Sharing
from xproxy.testing import Samples
from xproxy.testing.fakes.lines import LINES, LinesCodec
from xproxy.testing.fakes.pieces import PIECES
from xproxy.testing.subject import NotConforming, Subject


def test_a_request_with_fields_is_found_and_a_response_with_a_native_status() -> None:
    subject = Subject(LINES)
    assert (subject.request.method, len(subject.request.headers)) == ("say", 3)
    assert subject.response.native_status == 0


def test_the_authors_request_comes_first() -> None:
    mine = RequestHead(service="mine", method="own")
    assert Subject(PIECES, Samples(requests=(mine,))).request == mine


def test_a_headless_codec_needs_no_request() -> None:
    subject = Subject(OPAQUE)
    assert subject.request.service == ""
    assert subject.sharing is Sharing.SERIAL
    assert subject.ids(2) == [1, 1]


def test_a_codec_that_carries_no_request_is_told_what_was_tried() -> None:
    class Mute(LinesCodec):
        def send(self, frame: Frame) -> bytes:
            raise LocalProtocolError("no voice")

    finding = caught(Broken(codec=Mute))
    assert finding.rule == "first-words"
    assert "Samples(requests=…)" in str(finding)
    assert "say to xproxy.Echo {}: send refuses it (no voice)" in str(finding)


@pytest.mark.parametrize(("size", "words"), [(3, r"610061\Z"), (999, r"6161 … \(999 bytes\)\Z")])
def test_a_finding_shows_its_input_shortened(size: int, words: str) -> None:
    data = b"a\0a" if size == 3 else b"a" * size
    with pytest.raises(NotConforming, match=rf"(?s)'x' breaks the rule 'r': d.*{words}"):
        raise NotConforming("x", "r", "d", data)
