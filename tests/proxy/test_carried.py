"""All parts of a running proxy are found, each under a name of its own."""

from __future__ import annotations

import msgpack
import pytest

from tests.live import registry, running, web
from tests.secure import tls
from xproxy.proxy.carried import ProcessState, carrying_parts
from xproxy.proxy.runtime import Runtime

TEXT = web(1, listener="    server_first: true\n    fallback: {cluster: web}\n" + tls())


async def test_every_part_is_given_marks_before_turns() -> None:
    async with running(TEXT) as live:
        found = [part.carried_as() for part in carrying_parts(live.runtime)]
        assert [(what.kind, what.name) for what in found] == [
            ("process", "xproxy"),
            ("endpoint marks", "web"),
            ("balancer turn", "web"),
            ("agreed protocols", "web"),
            ("silent destinations", "edge"),
            ("ticket keys", "edge"),
        ]


async def test_configurations_are_counted_over_all_processes() -> None:
    async with running(web(1)) as old, running(web(1)) as new:
        await old.reload(web(2))
        await new.reload(web(2))
        ProcessState(new.runtime).resume(ProcessState(old.runtime).carry())
        assert new.runtime.generation == 4
        for wrong in (b"", msgpack.packb(["process", 1, {"configurations": -1}])):
            with pytest.raises(ValueError, match="snapshot of process"):
                ProcessState(new.runtime).resume(wrong)
        assert new.runtime.generation == 4


def test_before_there_is_a_configuration_there_is_little() -> None:
    runtime = Runtime(registry())
    try:
        assert [part.carried_as().kind for part in carrying_parts(runtime)] == ["process"]
    finally:
        runtime.poller.close()
