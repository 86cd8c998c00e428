"""A worker whose supervisor is the test."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.live import web
from tests.process.product import unused_port
from xproxy.config.load import load_text
from xproxy.config.schema import ListenerConfig
from xproxy.model.address import Address
from xproxy.proxy.handover import Handover, Report, Runs
from xproxy.proxy.overseen import MOST_WAITING, NoSupervisor, Overseen
from xproxy.proxy.runtime import serve
from xproxy.proxy.siblings import Answers, Process
from xproxy.proxy.steering import Steering
from xproxy.registry import default_registry
from xproxy.supervisor import messages
from xproxy.transport.listener import ListenError
from xproxy.transport.sealed import sealed

PATIENCE = 30.0
WELCOME = {"kind": "welcome", "v": messages.VERSION, "index": 0, "generation": 1, "count": 0}
CONFIG = ListenerConfig(name="edge", address=Address("127.0.0.1", 0), routes="r")


@attrs.define(eq=False)
class Supervisor:
    """Our end of a worker's control socket."""

    sock: socket.socket
    theirs: socket.socket

    def say(self, descriptors: tuple[int, ...] = (), **message: object) -> None:
        messages.send(self.sock, message, descriptors)

    async def hear(self, kind: str) -> dict[str, Any]:
        """Return the next message, which is of this kind."""
        with trio.fail_after(PATIENCE):
            await trio.lowlevel.wait_readable(self.sock)
        heard = messages.receive(self.sock)
        assert heard is not None
        message, found = heard
        assert not found
        assert message["kind"] == kind, message
        return message


def supervisor(**welcome: object) -> Supervisor:
    ours, theirs = messages.pair()
    found = Supervisor(ours, theirs)
    messages.send(ours, {**WELCOME, **welcome})
    return found


@asynccontextmanager
async def overseen(
    handover: Handover | None = None, channel: socket.socket | None = None
) -> AsyncIterator[tuple[Supervisor, Overseen]]:
    ours = supervisor()
    with ours.sock, trio.fail_after(PATIENCE):
        worker = Overseen(ours.theirs, channel, handover)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            yield ours, worker
            nursery.cancel_scope.cancel()
        worker.close()


@attrs.define(eq=False)
class Played:
    """A runtime."""

    draining: bool = False
    generation: int = 0
    told: list[str] = attrs.field(factory=list)
    accepting: trio.Event = attrs.field(factory=trio.Event)

    def hold(self) -> None:
        self.told.append("hold")
        self.accepting = trio.Event()

    def accept(self) -> None:
        self.told.append("accept")
        self.accepting.set()

    def stop(self) -> None:
        self.draining = True
        self.told.append("stop")

    def cut(self) -> None:
        self.told.append("cut")

    async def reload(self, config: object) -> None:
        del config
        self.told.append("reload")


# ---- who it is


def test_nobody_oversees_it() -> None:
    assert Overseen.from_environment({"PATH": "/bin"}) is None


def test_it_is_who_the_environment_says_and_its_own_children_are_not() -> None:
    ours = supervisor(index=3, generation=2, count=4)
    with ours.sock:
        os.set_inheritable(ours.theirs.fileno(), True)
        environment = {"XPROXY_SUPERVISOR": str(ours.theirs.detach()), "A": "b"}
        worker = Overseen.from_environment(environment)
        assert worker is not None
        assert (worker.index, worker.generation, worker.count) == (3, 2, 4)
        assert environment == {"A": "b"}
        worker.close()
        worker.close()


@pytest.mark.parametrize("descriptor", ["x", "9999", "-1"])
def test_a_descriptor_that_is_none(descriptor: str) -> None:
    with pytest.raises(NoSupervisor, match="XPROXY_SUPERVISOR"):
        Overseen.from_environment({"XPROXY_SUPERVISOR": descriptor})


def test_a_supervisor_that_is_gone_or_of_another_version() -> None:
    ours, theirs = messages.pair()
    with theirs:
        ours.close()
        with pytest.raises(NoSupervisor, match="ended"):
            Overseen(theirs)
    other = supervisor(v=99)
    with other.sock, other.theirs, pytest.raises(NoSupervisor, match="version"):
        Overseen(other.theirs)


async def test_hello_says_how_many_workers_are_wanted(caplog: pytest.LogCaptureFixture) -> None:
    ours = supervisor()
    with ours.sock, ours.theirs:
        worker = Overseen(ours.theirs)
        worker.hello(3, log_format="json")
        said = await ours.hear("hello")
        assert (said["v"], said["workers"], said["log_format"]) == (1, 3, "json")
        assert worker.count == 3
        worker.hello(4)
        assert worker.count == 3
        assert "4 hold from the next start" in caplog.text
        ours.sock.close()
        with pytest.raises(NoSupervisor):
            worker.hello(3)


async def test_why_it_cannot_serve_is_its_last_word() -> None:
    ours = supervisor()
    with ours.sock:
        worker = Overseen(ours.theirs)
        worker.failed("edge: unknown key")
        assert (await ours.hear("failed"))["why"] == "edge: unknown key"
        worker.close()
        worker.failed("nobody hears it")


# ---- listeners


async def test_it_gets_its_sockets() -> None:
    async with overseen() as (ours, worker), trio.open_nursery() as nursery:
        with socket.socket() as one, socket.socket() as two:
            found: list[socket.socket] = []

            async def ask() -> None:
                found.extend(await worker.open(CONFIG, single=True))

            nursery.start_soon(ask)
            asked = await ours.hear("listen")
            assert (asked["host"], asked["port"], asked["single"]) == ("127.0.0.1", 0, True)
            ours.say((one.fileno(), two.fileno()), kind="listening", id=asked["id"])
            while not found:
                await trio.lowlevel.checkpoint()
            assert [os.fstat(sock.fileno()).st_ino for sock in found] == [
                os.fstat(sock.fileno()).st_ino for sock in (one, two)
            ]
            for sock in found:
                sock.close()


async def test_it_hears_why_it_cannot_have_one() -> None:
    async with overseen() as (ours, worker), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(ListenError, match="it is taken"):
                await worker.open(CONFIG, single=False)

        nursery.start_soon(ask)
        asked = await ours.hear("listen")
        ours.say(kind="refused", id=asked["id"], why="it is taken")


@pytest.mark.parametrize("last", [True, False])
async def test_whether_it_was_the_last(last: bool) -> None:
    async with overseen() as (ours, worker), trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await worker.release(CONFIG) == last

        nursery.start_soon(ask)
        asked = await ours.hear("release")
        ours.say(kind="released", id=asked["id"], last=last)
    async with overseen() as (ours, worker):
        worker.forget(CONFIG)
        assert "id" not in await ours.hear("release")


async def test_an_answer_that_nobody_waits_for_leaves_no_descriptor() -> None:
    async with overseen() as (ours, worker):
        before = len(os.listdir("/proc/self/fd"))
        for kind in ("listening", "give", "new in a later version"):
            ours.say((0, 1), kind=kind, id=77)
        ours.say(kind="start")
        await worker._start.wait()
        assert len(os.listdir("/proc/self/fd")) == before


async def test_a_supervisor_that_is_silent(autojump_clock: trio.testing.MockClock) -> None:
    ours = supervisor()
    with ours.sock:
        worker = Overseen(ours.theirs)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run)
            with pytest.raises(ListenError, match="does not answer"):
                await worker.open(CONFIG, single=False)
            assert await worker.release(CONFIG)
            nursery.cancel_scope.cancel()
        worker.close()


async def test_without_its_supervisor_it_goes_on_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.sock"
    config = attrs.evolve(CONFIG, address=Address("", 0, str(path)))
    async with overseen() as (ours, worker):
        ours.sock.close()
        await worker._lost.wait()
        (sock,) = await worker.open(config, single=False)
        sock.close()
        assert await worker.release(config)
        worker.ended(config)
        assert not path.exists()
        worker.report({"step": "nobody hears it"})
    assert caplog.text.count("the supervisor has ended") == 1


async def test_a_question_under_way_when_the_supervisor_dies() -> None:
    async with overseen() as (ours, worker), trio.open_nursery() as nursery:

        async def ask() -> None:
            (sock,) = await worker.open(CONFIG, single=False)
            sock.close()

        nursery.start_soon(ask)
        await ours.hear("listen")
        ours.sock.close()


async def test_what_the_supervisor_does_not_read_waits_in_order_and_is_bounded() -> None:
    async with overseen() as (ours, worker):
        for n in range(MOST_WAITING + 500):
            worker.report({"n": n, "filling": "x" * 1000})
        assert len(worker._unsent) == MOST_WAITING
        for n in range(MOST_WAITING):
            assert (await ours.hear("report"))["n"] == n


# ---- orders


async def test_orders_are_obeyed_also_those_that_came_early() -> None:
    runtime = Played()
    async with overseen() as (ours, worker), trio.open_nursery() as nursery:
        ours.say(kind="reload", signal="SIGHUP")
        while not worker._orders:
            await trio.lowlevel.checkpoint()
        worker.steer(Steering(runtime, lambda: load(), nursery))
        await ours.hear("reloaded")
        ours.say(kind="drain", signal="SIGTERM")
        ours.say(kind="drain", signal="SIGTERM")
        ours.say(kind="cut", signal="SIGTERM")
        while "cut" not in runtime.told:
            await trio.lowlevel.checkpoint()
        assert runtime.told == ["reload", "stop", "cut"]


def load() -> Any:  # Any: no reload of these tests looks at it
    return object()


async def test_it_accepts_when_it_is_told_to() -> None:
    runtime = Played()
    async with overseen() as (ours, worker), trio.open_nursery() as nursery:

        async def begin() -> None:
            assert await worker.begin(runtime, trio.Event(), trio.Event())

        nursery.start_soon(begin)
        await ours.hear("prepared")
        assert not runtime.told
        ours.say(kind="start", announce=True)
    assert runtime.told == ["accept"]


async def test_it_does_not_begin_when_it_has_ended() -> None:
    runtime, ended = Played(), trio.Event()
    async with overseen() as (_, worker):
        ended.set()
        assert not await worker.begin(runtime, ended, trio.Event())
    assert not runtime.told


async def test_handing_over_is_what_whoever_made_it_says() -> None:
    done: list[str] = []

    async def give(runtime: Runs, sock: socket.socket, report: Report) -> None:
        done.append("give")
        report({"step": "given"})
        runtime.stop()
        sock.close()

    async def take(runtime: Runs, sock: socket.socket, report: Report) -> None:
        done.append("take")
        report({"step": "accepting"})
        runtime.accept()
        accepting.set()
        sock.close()

    accepting = trio.Event()
    runtime = Played()
    channel, other = messages.pair()
    async with overseen(Handover(give, take), channel) as (ours, worker):
        assert not await worker.begin(runtime, trio.Event(), accepting)
        await ours.hear("prepared")
        assert (await ours.hear("report"))["step"] == "accepting"
        ends = messages.pair()
        ours.say((ends[0].fileno(),), kind="give", to=2)
        assert await ours.hear("report") == {"kind": "report", "step": "given", "to": 2}
        assert (done, runtime.told) == (["take", "give"], ["accept", "stop"])
        ours.sock.close()
        await worker._lost.wait()
        assert not await worker.release(CONFIG), "there is another one"
    for end in (other, *ends):
        end.close()


@pytest.mark.parametrize("told", [False, True])
async def test_what_a_withdrawn_takeover_has_taken_is_given_back_or_ends(
    told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gave = trio.Event()

    async def give(_runtime: Runs, sock: socket.socket, report: Report) -> None:
        report({"step": "giving"})
        sock.close()
        gave.set()

    async def take(_runtime: Runs, sock: socket.socket, report: Report) -> None:
        report({"step": "withdrawn"})
        sock.close()

    if not told:
        monkeypatch.setattr("xproxy.proxy.overseen.GIVE_BACK", 0.0)
    runtime, ended = Played(), trio.Event()
    monkeypatch.setattr(Played, "stop", lambda _: ended.set())
    channel, other = messages.pair()
    ends = messages.pair()
    async with (
        overseen(Handover(give, take), channel) as (ours, worker),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(worker.begin, runtime, ended, trio.Event())
        await ours.hear("prepared")
        assert (await ours.hear("report"))["step"] == "withdrawn"
        if told:
            ours.say((ends[0].fileno(),), kind="give", back=True, to=1)
            assert (await ours.hear("report"))["step"] == "giving"
            await gave.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert not ended.is_set(), "it gives, and ends by that"
            nursery.cancel_scope.cancel()
        else:
            await ended.wait()
    for end in (other, *ends):
        end.close()


async def test_who_is_told_late_to_give_to_one_that_has_ended_says_so() -> None:
    async def give(*_: object) -> None:
        pytest.fail("there is nobody")

    ends = messages.pair()
    async with overseen(Handover(give, give, give)) as (ours, worker):
        ours.say(kind="start")
        await worker.begin(Played(), trio.Event(), trio.Event())
        await ours.hear("prepared")
        ends[1].close()
        for check in (False, True):
            ours.say((ends[0].fileno(),), kind="give", to=2, check=check)
            report = await ours.hear("report")
            assert (report["step"], report["to"]) == ("withdrawn", 2)
    ends[0].close()


async def test_questions_of_other_workers_are_answered() -> None:
    asked: list[object] = []

    async def answer(runtime: object, what: str) -> bytes | None:
        await trio.lowlevel.checkpoint()
        asked.append((runtime, what))
        return b"the answer"

    ours = supervisor()
    runtime, accepting = Played(), trio.Event()
    with ours.sock, trio.fail_after(PATIENCE):
        worker = Overseen(ours.theirs, answer=answer)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            ours.say(kind="asked", ask=3, what="/stats")
            assert await ours.hear("told") == {"kind": "told", "ask": 3}, "it has begun nothing"
            ours.say(kind="start")
            await worker.begin(runtime, trio.Event(), accepting)
            await ours.hear("prepared")
            ours.say(kind="asked", ask=4, what="/stats")
            await trio.lowlevel.wait_readable(ours.sock)
            heard = messages.receive(ours.sock)
            assert heard is not None
            message, [descriptor] = heard
            assert message == {"kind": "told", "ask": 4, "bytes": 10}
            assert os.pread(descriptor, 99, 0) == b"the answer"
            os.close(descriptor)
            assert asked == [(runtime, "/stats")]
            nursery.cancel_scope.cancel()
        worker.close()


async def test_an_answer_waits_for_a_supervisor_that_does_not_read() -> None:
    async with overseen() as (ours, worker):
        while not worker._unsent:
            worker.report({"step": "giving"})
        number = sealed(b"yes")
        worker._say({"kind": "told", "ask": 1, "bytes": 3}, [number])
        os.close(number)
        while (heard := messages.receive(ours.sock)) is not None:
            message, found = heard
            if found:
                break
            await trio.lowlevel.wait_readable(ours.sock)
        assert message["kind"] == "told"
        assert os.pread(found[0], 99, 0) == b"yes"
        messages.close_all(found)
        while not worker._unsent:
            worker.report({"step": "giving"})
        number = sealed(b"yes")
        worker._say({"kind": "told", "ask": 2, "bytes": 3}, [number])
        os.close(number)
        [*_, (_, copies)] = worker._unsent
    with pytest.raises(OSError):
        os.fstat(copies[0])  # what was not sent is closed


async def test_other_workers_are_asked() -> None:
    async with overseen() as (ours, worker):
        found: list[Answers] = []

        async def ask() -> None:
            found.append(await worker.siblings.ask("/stats"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            asked = await ours.hear("ask")
            assert asked["what"] == "/stats"
            ours.say(kind="others", id=asked["id"], of=[[1, 1]], silent=[])
            number = sealed(b"yes")
            ours.say((number,), kind="told", id=asked["id"], of=[1, 1], bytes=3)
            os.close(number)
        assert found == [Answers(Process(1, 0), {Process(1, 1): b"yes"})]
        ours.sock.close()
        await worker._lost.wait()
        assert (await worker.siblings.ask("/stats")).why == "the supervisor has ended"


@pytest.mark.parametrize("withdrawn", [False, True])
async def test_who_has_given_nothing_after_all_is_the_last_one_again(withdrawn: bool) -> None:
    async def give(runtime: Runs, sock: socket.socket, report: Report) -> None:
        runtime.hold()
        if withdrawn:
            runtime.accept()
        report({"step": "withdrawn" if withdrawn else "given"})
        sock.close()

    runtime = Played()
    runtime.accepting.set()
    channel, other = messages.pair()
    async with overseen(Handover(give)) as (ours, worker):
        assert not await worker.begin(runtime, trio.Event(), runtime.accepting)
        await ours.hear("prepared")
        ours.say((channel.fileno(),), kind="give")
        await ours.hear("report")
        ours.sock.close()
        await worker._lost.wait()
        assert await worker.release(CONFIG) is withdrawn
    channel.close()
    other.close()


async def test_what_an_older_one_yet_has_left_is_taken_by_who_accepts() -> None:
    taken: list[int] = []

    async def take(runtime: Runs, sock: socket.socket, report: Report) -> None:
        assert runtime.accepting.is_set()
        taken.append(sock.fileno())
        report({"step": "taken"})
        with sock:
            await trio.sleep_forever()  # several at a time

    runtime = Played()
    channels = [messages.pair() for _ in range(2)]
    async with overseen(Handover(take=take)) as (ours, worker):
        begun = trio.Event()
        accepting = runtime.accepting

        async def begin() -> None:
            await worker.begin(runtime, trio.Event(), accepting)
            begun.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            await ours.hear("prepared")
            for channel, _ in channels:
                ours.say((channel.fileno(),), kind="take")
            await trio.testing.wait_all_tasks_blocked()
            assert not taken, "it does not accept yet"
            runtime.accept()
            await ours.hear("report")
            await ours.hear("report")
            await begun.wait()
        assert len(set(taken)) == 2
    for channel, other in channels:
        channel.close()
        other.close()


async def test_a_whole_proxy_under_a_supervisor(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    port = unused_port()
    config = load_text(web(9).replace("127.0.0.1:0", f"127.0.0.1:{port}"), "x", default_registry())
    ours = supervisor(count=1)
    with socket.socket() as listening, ours.sock, trio.fail_after(PATIENCE):
        listening.bind(("127.0.0.1", port))
        listening.listen()
        async with trio.open_nursery() as nursery:
            lines: list[str] = []
            worker = Overseen(ours.theirs)

            async def run() -> None:
                async with trio.open_nursery() as inner:

                    async def start(task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
                        await serve(
                            config,
                            registry=default_registry(),
                            overseer=worker,
                            task_status=task_status,
                        )

                    lines.extend(await inner.start(start))

            nursery.start_soon(run)
            asked = await ours.hear("listen")
            ours.say((listening.fileno(),), kind="listening", id=asked["id"])
            await ours.hear("prepared")
            client = await trio.open_tcp_stream("127.0.0.1", port)
            await client.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            with trio.move_on_after(0.05) as waited:
                await client.receive_some(1)
            assert waited.cancelled_caught, "it was told not to accept yet"
            ours.say(kind="start", announce=True)
            assert (await client.receive_some(99)).startswith(b"HTTP/1.1 503 ")
            assert lines == [f"edge 127.0.0.1:{port}"]
            await client.aclose()
            ours.say(kind="drain", signal="SIGTERM")
            asked = await ours.hear("release")
            ours.say(kind="released", id=asked["id"], last=True)
    worker.close()
    assert "SIGTERM: draining" in [record.getMessage() for record in caplog.records]
