"""What one process knows, the next one goes on from; who refuses is named, and nobody else notices."""

from __future__ import annotations

import ssl

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.foreign import QUOTA, Quota
from tests.live import GET, Live, answering, registry, running, upstream, web
from tests.secure import ca, context, peer, tls
from xproxy.admin.pages import configuration
from xproxy.migration import carry as module
from xproxy.migration.carry import Carried, collect, resume
from xproxy.migration.settings import DIGEST_BYTES
from xproxy.proxy.runtime import Runtime

TEXT = web(1, 2, listener="    server_first: true\n    fallback: {cluster: web}\n" + tls())
PLUGINS = registry(QUOTA)


def with_quota(port: int, *options: str) -> str:
    filters = "".join(f"{{name: quota, {one}}}, " for one in options)
    return web(port, listener=f"    filters: [{filters}]\n")


async def test_all_that_is_known_goes_along() -> None:
    async with running(TEXT) as old, running(TEXT) as new:
        now = trio.current_time()
        old.cluster().endpoints[1].failing_until = now + 9
        destination = old.runtime.listeners["edge"].address, True
        old.runtime.listeners["edge"].chains.silent_destinations.note(destination, now + 100, 8)
        found = collect(old.runtime)
        assert [one.kind for one in found] == [
            "process",
            "endpoint marks",
            "balancer turn",
            "silent destinations",
            "ticket keys",
        ]
        assert resume(new.runtime, found) == []
        assert new.cluster().endpoints[1].failing_until > now
        assert new.runtime.listeners["edge"].chains.silent_destinations.known(destination, now)
        assert b'"generation": 2' in configuration(new.runtime).body


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_a_client_resumes_with_a_ticket_of_the_process_before(version: str) -> None:
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering())
        text = web(up.port, listener=tls())
        made = context(low=version, high=version)
        session: ssl.SSLSession | None = None
        async with running(text) as old, running(text) as new, running(text) as stranger:
            assert resume(new.runtime, collect(old.runtime)) == []
            for live in (old, new, stranger):
                client = await peer(live, made, session=session)
                await client.send_all(GET)
                assert (await client.receive_some()).startswith(b"HTTP/1.1 200")
                session = client.object.session
            assert old.stats().downstream_tls_resumed == 0
            assert new.stats().downstream_tls_resumed == 1
            assert stranger.stats().downstream_tls_resumed == 0
        nursery.cancel_scope.cancel()


async def test_other_rules_for_clients_are_other_tickets() -> None:
    less, more = (
        web(1, listener=tls()),
        web(1, listener=tls("client_certificates: {mode: require}")),
    )
    more = more.replace("mode: require", f"mode: require, ca: {ca()}")
    async with running(less) as old, running(more) as new:
        left = resume(new.runtime, collect(old.runtime))
        assert [(one.kind, one.name, one.why) for one in left] == [
            ("ticket keys", "edge", "it is configured otherwise")
        ]


def quota_of(live: Live, place: int = 0) -> Quota:
    assert live.runtime.snapshot is not None
    part = live.runtime.snapshot.carrying[place]
    assert isinstance(part, Quota)
    return part


async def test_a_plugins_own_part_goes_along() -> None:
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering())
        text = with_quota(up.port, "of: gold, most: 5")
        async with (
            running(text, plugins=PLUGINS) as old,
            running(text, plugins=PLUGINS) as new,
        ):
            client = await old.client()
            for _ in range(3):
                await client.send(GET)
                await client.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            assert resume(new.runtime, collect(old.runtime)) == []
            assert quota_of(new).used == 3
            client = await new.client()
            for _ in range(2):
                await client.send(GET)
                await client.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await client.send(GET)
            await client.expect(b"HTTP/1.1 429 ")
        nursery.cancel_scope.cancel()


def test_a_state_does_not_show_what_is_in_it() -> None:
    assert "key" not in repr(Carried(kind="a", name="b", version=1, data=b"key"))


async def test_another_configuration_another_name_and_another_version_do_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = ["a", "b", "c", "d", "e"]
    text = with_quota(1, *[f"of: {name}, most: 5" for name in names])
    other = with_quota(
        1,
        "of: a, most: 6",
        "of: b, most: 5, version: 2",
        "of: c, most: 5, version: 2, reads: [1]",
        "of: e, most: 5",
    )
    async with running(text, plugins=PLUGINS) as old, running(other, plugins=PLUGINS) as new:
        for place in range(len(names)):
            quota_of(old, place).used = 4
        left = resume(new.runtime, collect(old.runtime))
        assert [str(one) for one in left] == [
            "tests.quota a: it is configured otherwise",
            "tests.quota b: version 1 is not read",
            "tests.quota d: there is no such part, or it was resumed already",
        ]
        assert [quota_of(new, place).used for place in range(4)] == [0, 0, 4, 4]
        assert (
            "tests.quota b does not go on from where it was: version 1 is not read" in caplog.text
        )


async def test_a_part_that_fails_is_named_and_the_others_go_along(
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = with_quota(1, "of: a, most: 5, fails: carry", "of: b, most: 5", "of: b, most: 5")
    async with running(text, plugins=PLUGINS) as old:
        for place in range(3):
            quota_of(old, place).used = 1
        found = collect(old.runtime)
        assert [(one.kind, one.name) for one in found if one.kind == "tests.quota"] == [
            ("tests.quota", "b")
        ]
        assert "tests.quota a is not written: RuntimeError: lost my notes" in caplog.text
        assert "tests.quota b is not written: two parts have this name" in caplog.text
    async with running(text, plugins=PLUGINS) as new:
        resumed = resume(new.runtime, found)
        assert resumed == []
    for fails in ("resume", "carried_as"):
        text = with_quota(1, f"of: b, most: 5, fails: {fails}")
        async with running(text, plugins=PLUGINS) as new:
            (left,) = resume(new.runtime, found)
            assert left.name == "b"
            assert new.runtime.generation == 2
    assert "part Quota cannot say what it is: RuntimeError: lost my notes" in caplog.text


async def test_a_state_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(web(1)) as live:
        monkeypatch.setattr(module, "MAX_STATE_BYTES", 10)
        assert collect(live.runtime) == []
        monkeypatch.undo()
        found = collect(live.runtime)
        monkeypatch.setattr(module, "MAX_PARTS", 1)
        assert collect(live.runtime) == found[:1]
        assert resume(live.runtime, [*found[1:], *found]) == []
        assert live.runtime.generation == 1, "what is beyond the bound is not looked at"


@given(
    st.lists(
        st.builds(
            Carried,
            kind=st.sampled_from(
                ["process", "endpoint marks", "balancer turn", "ticket keys", "x"]
            ),
            name=st.sampled_from(["web", "edge", "xproxy", ""]),
            version=st.integers(0, 2),
            data=st.binary(max_size=40),
        ),
        max_size=4,
    )
)
def test_whatever_comes_is_refused_by_name(states: list[Carried]) -> None:
    runtime = Runtime(PLUGINS)
    try:
        left = resume(runtime, states)
        assert [(one.kind, one.name) for one in left] == [(one.kind, one.name) for one in states]
        assert runtime.generation == 0
    finally:
        runtime.poller.close()


async def test_a_state_cut_short_anywhere_is_refused() -> None:
    async with running(TEXT) as old, running(TEXT) as new:
        old.cluster().endpoints[1].failing_until = trio.current_time() + 9
        for state in collect(old.runtime):
            for size in range(len(state.data)):
                cut = attrs.evolve(state, data=state.data[:size])
                (left,) = resume(new.runtime, [cut])
                assert left.kind == state.kind
                assert (left.why == "it is configured otherwise") is (size < DIGEST_BYTES)
        assert new.runtime.generation == 1
