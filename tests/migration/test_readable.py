"""What the other side could not read is told by name, with what it reads."""

from __future__ import annotations

import pytest

from xproxy.migration.messages import Hello, StateVersions
from xproxy.migration.readable import unreadable


def hello(**reads: tuple[int, ...]) -> Hello:
    states = [
        StateVersions(name=name, writes=versions[-1] if versions else 0, reads=versions)
        for name, versions in reads.items()
    ]
    return Hello(versions=(1,), software="a test", states=tuple(states))


OURS = hello(http1=(2, 3), http2=(5, 6), tls=(1, 2), silent=())


@pytest.mark.parametrize(
    ("names", "theirs", "why"),
    [
        (["http1"], hello(http1=(1, 2, 3, 4)), ""),
        (["http2"], hello(http2=(3, 4, 5)), "http2 state 6 is not read by the new one (reads 3-5)"),
        (["http2"], hello(http2=(3, 5)), "http2 state 6 is not read by the new one (reads 3, 5)"),
        (["http2"], hello(http2=(7,)), "http2 state 6 is not read by the new one (reads 7)"),
        (["http2"], hello(http1=(3,)), "the new one has no codec http2"),
        (
            ["http1", "tls"],
            hello(http1=(3,), tls=(1,)),
            "tls state 2 is not read by the new one (reads 1)",
        ),
        (["http1"], hello(http1=()), ""),
        (["silent"], hello(silent=(1,)), ""),
        ([], hello(http1=(1,)), ""),
        (["http1"], Hello(versions=(1,), software="of an earlier release"), ""),
        (["http1"], None, ""),
    ],
)
def test_what_was_said_decides(names: list[str], theirs: Hello | None, why: str) -> None:
    assert unreadable(names, OURS, theirs) == why
