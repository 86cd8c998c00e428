"""Reloads and drains: what a person may do to a running proxy, and what nobody may notice."""

from __future__ import annotations

import gc
import re
import signal
import weakref
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.live import (
    GET,
    PATIENCE,
    answering,
    eventually,
    finish,
    hang_up,
    http_response,
    refused,
    refusing_port,
    registry,
    running,
    unused_port,
    upstream,
    web,
)
from xproxy.config.findings import InvalidConfig
from xproxy.config.load import load_text
from xproxy.config.schema import Config
from xproxy.model.errors import PluginError, XproxyError
from xproxy.proxy.runtime import Runtime, serve
from xproxy.testing import BROKEN, END, Party, play
from xproxy.transport.listener import ListenError

OK = http_response(b"ok")
HEAD = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


# ---- reload


async def test_a_stream_in_flight_ends_as_it_began_and_the_next_is_served_the_new_way() -> None:
    async with upstream() as one, upstream() as two, running(web(one.port)) as live:
        client = await live.client()
        await client.send(GET)
        old = Party("old", await one.accept())
        await play(
            old << HEAD, old >> CHUNKED + b"1\r\na\r\n", client << HEAD, client << b"1\r\na\r\n"
        )
        await live.reload(web(two.port))
        assert live.runtime.generation == 2
        await play(old >> b"1\r\nb\r\n0\r\n\r\n", client << b"1\r\nb\r\n", client << b"0\r\n\r\n")
        # On the same connection of the client's.
        await client.send(GET)
        new = Party("new", await two.accept())
        await play(new << HEAD, new >> OK, client << OK)
        await live.settled(clients=1, upstreams=1)


async def test_new_filters_hold_for_the_next_request_of_an_open_connection() -> None:
    refusing = "    filters: [{name: direct_response, status: permission-denied}]\n"
    async with upstream() as up, running(web(up.port)) as live, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering())
        client = await live.client()
        await play(client >> GET, client << OK)
        await live.reload(web(up.port, listener=refusing))
        await play(client >> GET, client << re.compile(rb"(?s)HTTP/1.1 403 .*\n$"))
        nursery.cancel_scope.cancel()


async def test_a_new_listener_opens_and_a_removed_one_drains() -> None:
    def with_second(port: int) -> str:
        second = "  - {name: second, address: '127.0.0.1:0', routes: main}\n"
        return web(port).replace("routes:\n  main", second + "routes:\n  main")

    async with upstream() as up, running(with_second(up.port)) as live:
        assert set(live.runtime.listeners) == {"edge", "second"}
        kept = await live.client("kept")
        going = await live.client("going", "second")
        port = live.port("second")
        servers = []
        for client in (kept, going):
            await client.send(GET)
            servers.append(Party("upstream", await up.accept()))
            await servers[-1].expect(HEAD)
        removed = live.runtime.listeners["second"]
        await live.reload(web(up.port))
        assert set(live.runtime.listeners) == {"edge"}
        await wait_all_tasks_blocked()
        await refused(port)
        # What is in flight on it still ends well.
        await servers[1].send(OK)
        assert b"Connection: close" in await going.expect(HEAD)
        await going.expect(b"ok")
        await going.expect(END)
        with trio.fail_after(PATIENCE):
            await removed.ended.wait()
        await play(servers[0] >> OK, kept << OK)
        # And it may come back.
        await live.reload(with_second(up.port))
        again = await live.client("again", "second")
        await again.send(GET)
        await play(servers[0] << HEAD, servers[0] >> OK, again << OK)


async def test_what_a_removed_listener_does_not_finish_in_time_is_cut_off() -> None:
    second = "  - {name: second, address: '127.0.0.1:0', routes: main, timeouts: {drain: 100ms}}\n"
    async with upstream() as up:
        text = web(up.port)
        both = text.replace("routes:\n  main", second + "routes:\n  main")
        async with running(both) as live:
            client = await live.client("client", "second")
            await client.send(GET)
            server = Party("upstream", await up.accept())
            await play(server << HEAD, server >> CHUNKED, client << HEAD)
            await live.reload(text)
            await client.expect(BROKEN)
            await live.settled(clients=0, upstreams=0)


async def test_an_address_that_changes_moves_the_listener() -> None:
    async with upstream() as up, running(web(up.port)) as live, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering())
        client = await live.client()
        await play(client >> GET, client << OK)
        old, new = live.port(), unused_port()
        await live.reload(web(up.port).replace("127.0.0.1:0", f"127.0.0.1:{new}"))
        assert live.port() == new != old
        moved = await live.client("moved")
        await play(moved >> GET, moved << OK)
        await client.expect(END)
        await refused(old)
        nursery.cancel_scope.cancel()


async def test_two_listeners_may_change_places_and_names() -> None:
    first, second = unused_port(), unused_port()

    def pair(port: int, a: tuple[str, int], b: tuple[str, int]) -> str:
        lines = "".join(
            f"  - {{name: {name}, address: '127.0.0.1:{at}', routes: main}}\n"
            for name, at in (a, b)
        )
        _head, _, tail = web(port).partition("routes:\n  main")
        return "listeners:\n" + lines + "routes:\n  main" + tail

    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering())
        async with running(pair(up.port, ("a", first), ("b", second))) as live:
            await live.reload(pair(up.port, ("a", second), ("b", first)))
            assert (live.port("a"), live.port("b")) == (second, first)
            for name in ("a", "b"):
                client = await live.client(name, name)
                await play(client >> GET, client << OK)
            await live.reload(pair(up.port, ("c", second), ("b", first)))
            client = await live.client("c", "c")
            await play(client >> GET, client << OK)
        nursery.cancel_scope.cancel()


async def test_a_listener_with_any_port_keeps_the_one_it_got() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        before = live.port()
        await live.reload(web(up.port, connect_timeout="2s"))
        assert live.port() == before


@pytest.mark.parametrize("fault", ["port", "name"])
async def test_a_reload_that_fails_changes_nothing_and_says_why(fault: str) -> None:
    taken = unused_port()
    async with upstream() as up, upstream(taken), running(web(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, client << OK)
        snapshot, tasks = live.runtime.snapshot, trio.lowlevel.current_statistics().tasks_living
        fresh = f"  - {{name: fresh, address: '127.0.0.1:{unused_port()}', routes: main}}\n"
        bad = f"  - {{name: bad, address: '127.0.0.1:{taken}', routes: main}}\n"
        text = web(unused_port(), listener="    filters: [access_log]\n")
        text = text.replace("routes:\n  main", fresh + bad + "routes:\n  main")
        error: type[XproxyError] = ListenError
        config = live.parse(text)
        if fault == "name":
            error = InvalidConfig
            cluster = attrs.evolve(config.clusters["web"], load_balancer="none")
            config = attrs.evolve(config, clusters={"web": cluster})
        with pytest.raises(error) as failed:
            await live.runtime.reload(config)
        assert (str(taken) if fault == "port" else "none") in str(failed.value)
        await wait_all_tasks_blocked()
        assert live.runtime.snapshot is snapshot
        assert live.runtime.generation == 1
        assert set(live.runtime.listeners) == {"edge"}
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        await play(client >> GET, server << HEAD, server >> OK, client << OK)
        # And what was opened for it on the way is closed again.
        port = int(re.findall(r"fresh, address: '127\.0\.0\.1:(\d+)'", text)[0])
        await refused(port)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (web(1, load_balancer="raising"), "'raising' cannot be made: RuntimeError: no licence"),
        (
            web(1, listener="    filters: [start_fails]\n"),
            "StartFails cannot start: OSError: no such device",
        ),
    ],
)
async def test_a_plugin_that_raises_refuses_the_reload_and_ends_nobody(
    text: str, said: str
) -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, client << OK)
        with pytest.raises(PluginError, match=re.escape(said)):
            await live.reload(text)
        await play(client >> GET, server << HEAD, server >> OK, client << OK)
        assert live.runtime.generation == 1


async def test_a_background_task_that_fails_is_said_and_ends_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        upstream() as up,
        running(web(up.port, listener="    filters: [work_fails]\n")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, answering())
        await eventually(lambda: "lost my notes" in caplog.text, "it is logged")
        client = await live.client()
        await play(client >> GET, client << OK)
        nursery.cancel_scope.cancel()


async def test_each_listener_drains_by_its_own_deadline() -> None:
    patient = "  - {name: patient, address: '127.0.0.1:0', routes: main, timeouts: {drain: 0}}\n"
    async with upstream() as up:
        text = web(up.port, timeouts="{drain: 100ms}").replace(
            "routes:\n  main", patient + "routes:\n  main"
        )
        async with running(text) as live:
            hasty, slow = await live.client("hasty"), await live.client("slow", "patient")
            servers = []
            for client in (hasty, slow):
                await client.send(GET)
                servers.append(Party("upstream", await up.accept()))
                await servers[-1].expect(HEAD)
            live.runtime.stop()
            await hasty.expect(END)
            await play(servers[1] >> OK, slow << HEAD, slow << b"ok", slow << END)
            await drained(live.runtime)


async def test_the_file_of_a_unix_socket_goes_with_its_listener(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    async with upstream() as up:
        text = web(up.port).replace("127.0.0.1:0", f"unix:{path}")
        async with running(text) as live:
            assert path.is_socket()
            await live.reload(text.replace("name: edge", "name: other"))
            assert path.is_socket()
            live.runtime.stop()
            await drained(live.runtime)
            assert not path.exists()


async def test_filters_with_a_task_end_with_the_last_snapshot_that_has_them(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = f"    filters: [{{name: access_log, path: {path}}}]\n"
    async with (
        upstream() as up,
        running(web(up.port, listener=log)) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, answering())
        client = await live.client()
        await play(client >> GET, client << OK)
        await live.settled(clients=1)
        tasks = trio.lowlevel.current_statistics().tasks_living
        for n in range(1, 6):
            # An equal filter in a new snapshot is a new one, with a task of its own; the old one ends.
            await live.reload(web(up.port, listener=log, connect_timeout=f"{n}s"))
            await play(client >> GET, client << OK)
        await eventually(
            lambda: trio.lowlevel.current_statistics().tasks_living <= tasks + 1,
            "the tasks of five snapshots",
        )
        await eventually(lambda: path.read_text().count("\n") == 6, "six lines")
        nursery.cancel_scope.cancel()


async def test_many_reloads_in_a_row_leave_the_last_one_in_force() -> None:
    async with upstream() as up, running(web(up.port)) as live, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering())
        client = await live.client()
        async with trio.open_nursery() as reloads:
            for n in range(1, 21):
                reloads.start_soon(live.reload, web(up.port, connect_timeout=f"{n}s"))
        assert live.runtime.generation == 21
        await play(client >> GET, client << OK)
        await eventually(lambda: len(live.runtime._live) == 1, "retired snapshots")
        assert len(live.runtime._scopes) == 1
        nursery.cancel_scope.cancel()


async def test_counters_of_a_listener_go_on_through_a_reload() -> None:
    async with upstream() as up, running(web(up.port)) as live, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering())
        client = await live.client()
        await play(client >> GET, client << OK)
        await live.reload(web(up.port, connect_timeout="2s"))
        await play(client >> GET, client << OK)
        assert live.stats().downstream_rq_total == 2
        text = live.runtime.metrics.render_text()
        assert "listener.edge.downstream_rq_total: 2\n" in text
        assert text.count("cluster.web.upstream_rq_total") == 1
        nursery.cancel_scope.cancel()


# ---- start


async def test_a_port_that_is_taken_is_said_at_the_start() -> None:
    async with upstream() as up:
        text = web(1).replace("127.0.0.1:0", f"127.0.0.1:{up.port}")
        runtime = Runtime(registry())
        with pytest.raises(ListenError, match=rf"cannot listen on 127\.0\.0\.1:{up.port}: Address"):
            await runtime.run(load_text(text, "test.yaml", registry()))
        assert len(runtime.poller) == 0


async def test_the_admin_listener_survives_reloads() -> None:
    async with upstream() as up:
        port = unused_port()
        admin = f"admin: {{address: '127.0.0.1:{port}'}}\n"
        async with running(admin + web(up.port), admin=True) as live:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                client = Party("admin", stream)
                ready = re.compile(rb"HTTP/1.1 200 .*?\r\n\r\nLIVE\n", re.DOTALL)
                ask = b"GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n"
                await play(client >> ask, client << ready)
                await live.reload(admin + web(up.port, connect_timeout="2s"))
                await play(client >> ask, client << ready)


# ---- drain


async def drained(runtime: Runtime) -> None:
    with trio.fail_after(PATIENCE):
        await runtime.ended.wait()


async def test_a_drain_finishes_what_is_in_flight_in_every_protocol() -> None:
    fallback = "    fallback: {cluster: web}\n    codecs: [http1, lines]\n"
    async with upstream() as up, running(web(up.port, listener=fallback)) as live:
        http, lines, raw = [await live.client(n) for n in ("http", "lines", "raw")]
        servers = []
        for client, data in ((http, GET), (lines, b"~q 1 s m 0 -\n"), (raw, b"\xff\xff")):
            await client.send(data)
            servers.append(Party(client.name + " upstream", await up.accept()))
        await servers[0].expect(HEAD)
        number = await servers[1].expect(re.compile(rb"~q \d+ s m 0 -\n"))
        await servers[2].expect(b"\xff\xff")
        live.runtime.stop()
        await wait_all_tasks_blocked()
        assert not live.runtime.ended.is_set()
        await servers[0].send(OK)
        assert b"Connection: close" in await http.expect(HEAD)
        await play(http << b"ok", http << END)
        await lines.expect(b"~g\n")
        await servers[1].send(b"~s %b 0 2 -\nok" % number.split()[1])
        await play(lines << b"~s 1 0 2 -\nok", lines << END)
        await play(servers[2] >> b"all", raw << b"all")
        await finish(raw)
        await servers[2].expect(END)
        await hang_up(servers[2])
        await raw.expect(END)
        await hang_up(raw)
        await drained(live.runtime)


async def test_a_drain_without_streams_is_over_at_once() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        live.runtime.stop()
        await drained(live.runtime)


async def test_a_drain_has_an_end(caplog: pytest.LogCaptureFixture) -> None:
    async with upstream() as up, running(web(up.port, timeouts="{drain: 200ms}")) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> CHUNKED, client << HEAD)
        live.runtime.stop()
        await client.expect(BROKEN)
        await drained(live.runtime)
        assert "(timeouts.drain)" in caplog.text


async def test_a_drain_waits_for_a_listener_that_a_reload_removed_too() -> None:
    second = "  - {name: second, address: '127.0.0.1:0', routes: main}\n"
    async with upstream() as up:
        both = web(up.port).replace("routes:\n  main", second + "routes:\n  main")
        async with running(both) as live:
            client = await live.client("client", "second")
            await client.send(GET)
            server = Party("upstream", await up.accept())
            await server.expect(HEAD)
            await live.reload(web(up.port))
            live.runtime.stop()
            await wait_all_tasks_blocked()
            await server.send(OK)
            assert b"200" in await client.expect(HEAD)
            await play(client << b"ok", client << END)
            await drained(live.runtime)


# ---- signals


@attrs.define(eq=False)
class Reloading:
    """Gives one configuration after the other, or fails."""

    texts: list[str]
    calls: int = 0

    def __call__(self) -> Config:
        self.calls += 1
        return load_text(self.texts.pop(0), "test.yaml", registry())


async def start(nursery: trio.Nursery, text: str, reload: Reloading | None) -> int:
    config = load_text(text, "test.yaml", registry())

    async def run(task_status: trio.TaskStatus[list[str]]) -> None:
        await serve(config, registry=registry(), reload=reload, task_status=task_status)

    (line,) = await nursery.start(run)
    name, _, address = line.partition(" ")
    assert name == "edge"
    return int(address.rpartition(":")[2])


async def test_sighup_reloads_and_a_bad_file_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with upstream() as one, upstream() as two, trio.open_nursery() as nursery:
        nursery.start_soon(one.serve, answering(b"1"))
        nursery.start_soon(two.serve, answering(b"2"))
        reload = Reloading([web(two.port), "listeners: nonsense"])
        port = await start(nursery, web(one.port), reload)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            client = Party("client", stream)
            await play(client >> GET, client << http_response(b"1"))
            signal.raise_signal(signal.SIGHUP)
            await eventually(lambda: "configuration 2 is in force" in caplog.text, "the reload")
            await play(client >> GET, client << http_response(b"2"))
            signal.raise_signal(signal.SIGHUP)
            await eventually(lambda: "nothing has changed" in caplog.text, "the refusal")
            assert "test.yaml:1:12" in caplog.text
            await play(client >> GET, client << http_response(b"2"))
        signal.raise_signal(signal.SIGTERM)
        await eventually(lambda: "SIGTERM: draining" in caplog.text, "the drain")
        nursery.cancel_scope.cancel()


async def test_sighup_without_a_file_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async with trio.open_nursery() as nursery:
        await start(nursery, web(1), None)
        signal.raise_signal(signal.SIGHUP)
        await eventually(lambda: "no configuration file to reload" in caplog.text, "the warning")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_another_one_cuts_off(
    number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with upstream() as up:
        ended = trio.Event()

        async def run(task_status: trio.TaskStatus[int]) -> None:
            async with trio.open_nursery() as inner:
                task_status.started(await start(inner, web(up.port), None))
            ended.set()

        async with trio.open_nursery() as nursery:
            port: int = await nursery.start(run)
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                client = Party("client", stream)
                await client.send(GET)
                server = Party("upstream", await up.accept())
                await server.expect(HEAD)
                signal.raise_signal(number)
                await eventually(lambda: f"{number.name}: draining" in caplog.text, "the drain")
                # A reload in the middle of it is refused, and above all does not end the process.
                signal.raise_signal(signal.SIGHUP)
                await eventually(lambda: "SIGHUP: ignored" in caplog.text, "the refusal")
                assert not ended.is_set()
                signal.raise_signal(number)
                with trio.fail_after(PATIENCE):
                    await ended.wait()
                assert "is cut off" in caplog.text


async def test_what_cannot_start_is_raised_as_it_is() -> None:
    async with upstream() as up:
        text = web(1).replace("127.0.0.1:0", f"127.0.0.1:{up.port}")
        config = load_text(text, "test.yaml", registry())
        with pytest.raises(ListenError):
            await serve(config, registry=registry())


async def test_what_is_wrong_is_said_before_any_of_it_is_used() -> None:
    config = load_text(web(1), "test.yaml", registry())
    (listener,) = config.listeners
    wrong = attrs.evolve(config, listeners=(attrs.evolve(listener, codecs=("htpp1",)),))
    with pytest.raises(InvalidConfig, match=r"listeners\[0\].codecs\[0\]: .* mean `http1`"):
        await serve(wrong, registry=registry())


def test_a_bad_configuration_is_an_error_of_ours() -> None:
    # serve() catches XproxyError: nothing that a file can do wrong may end the proxy.
    assert issubclass(InvalidConfig, XproxyError)
    assert issubclass(ListenError, XproxyError)
    assert issubclass(PluginError, XproxyError)


async def test_counters_go_on_over_a_reload_that_changes_what_they_count() -> None:
    async with (
        upstream() as up,
        running(web(up.port, refusing_port())) as live,
        trio.open_nursery() as serving,
    ):
        serving.start_soon(up.serve, answering(b"ok"))
        client = await live.client()
        for _ in range(2):  # in turn, and one of them refuses
            await client.send(GET)
            await client.expect(re.compile(rb"(?s)HTTP/1.1 (200 .*\r\n\r\nok|503 .*\r\n\r\n.+)"))
        before, counted = live.cluster(), live.cluster().stats
        totals = {one.address: (one.total, one.failed) for one in before.endpoints}
        assert counted.upstream_rq_total > 0
        assert sum(total for total, _ in totals.values()) == counted.upstream_rq_total
        requests = live.stats().downstream_rq_total
        await live.reload(
            web(*(one.address.port for one in before.endpoints), connect_timeout="2s").replace(
                "127.0.0.1:0", f"127.0.0.1:{unused_port()}"
            )
        )
        assert live.cluster() is not before
        assert live.cluster().stats is counted
        assert {o.address: (o.total, o.failed) for o in live.cluster().endpoints} == totals
        assert live.stats().downstream_rq_total == requests
        await live.settled(clients=None, upstreams=None)
        serving.cancel_scope.cancel()


async def test_a_cluster_that_has_gone_leaves_nothing_to_the_collector() -> None:
    # What is frozen is not looked at, and thousands may go at once.
    async with running(web(1)) as live:
        gone = weakref.ref(live.cluster())
        gc.disable()
        try:
            await live.reload(web(1, idle_timeout="3s"))
            await eventually(lambda: gone() is None, "its end")
        finally:
            gc.enable()
