"""A worker's side of its supervisor: what it asks for, and what it is told.

Where the supervisor has died, the worker goes on: it opens its own sockets from then on, and heeds the signals that
came from there before.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import logging
import os
import select
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Final, TypeAlias

import attrs
import trio

from xproxy.config.schema import ListenerConfig
from xproxy.proxy.handover import Handover, Runs
from xproxy.proxy.listener_source import OwnListeners
from xproxy.proxy.siblings import Process, Siblings
from xproxy.proxy.steering import Steering
from xproxy.supervisor import messages
from xproxy.supervisor.messages import flag, number, text
from xproxy.supervisor.spawn import ordinary
from xproxy.transport.listener import ListenError

_logger = logging.getLogger(__name__)

PATIENCE: Final = 10.0
"""Seconds for the supervisor to answer; it does nothing that takes long."""
MOST_WAITING: Final = 1024
"""Messages that a supervisor has not read; with more it counts as lost."""

GIVE_BACK: Final = 5.0
"""Seconds for which a worker whose takeover was withdrawn waits to be told whom it gives back what it has taken."""
MOST_WHY: Final = 2048
"""Characters of the reason for an end."""

Answer: TypeAlias = tuple[dict[str, object], list[int]]


class NoSupervisor(Exception):
    """The environment names a supervisor, but there is none."""


@attrs.define(eq=False)
class _Question:
    """Something asked of the supervisor."""

    answered: trio.Event = attrs.field(factory=trio.Event)
    answer: Answer | None = None
    """None: there was none in time, and none will come."""


class Overseen:
    """The worker as its supervisor knows it. Also a ListenerSource."""

    def __init__(
        self,
        sock: socket.socket,
        channel: socket.socket | None = None,
        handover: Handover | None = None,
        answer: Callable[..., Awaitable[bytes | None]] | None = None,
    ) -> None:
        """``sock``: our end of the control socket, the first message already in it. ``channel``: to whom we follow.
        ``answer``: called with the runtime and a question of another worker, see ``siblings.Answer``.

        Raises NoSupervisor, OSError, ValueError.
        """
        welcome = _first_message(sock)
        self.index: Final = number(welcome, "index")
        self.generation: Final = number(welcome, "generation")
        self.count = number(welcome, "count")
        """How many workers share the ports; 0: it is ours to say."""
        self._socket = sock
        self._channel = channel
        self._handover = handover or Handover()
        self._answer = answer
        self.siblings: Final = Siblings(Process(self.generation, self.index), self._say)
        """The other workers."""
        self._own = OwnListeners()
        self._questions: dict[int, _Question] = {}
        self._ids = itertools.count(1)
        self._unsent: collections.deque[tuple[bytes, list[int]]] = collections.deque()
        self._unsent_more = trio.Event()
        self._lost = trio.Event()
        self._start = trio.Event()
        self._announce = False
        self._gives = False
        self._to_give = trio.Event()
        # Set when it was told to …
        self._took = trio.Event()
        # … and when what it was started for, to take, has ended.
        self._runtime: Runs | None = None
        self._accepting: trio.Event | None = None
        self._steering: Steering | None = None
        self._orders: list[tuple[str, str]] = []
        """Those that came before there was anybody to obey."""
        self._nursery: trio.Nursery | None = None

    @classmethod
    def from_environment(
        cls,
        environment: MutableMapping[str, str] = os.environ,
        handover: Handover | None = None,
        answer: Callable[..., Awaitable[bytes | None]] | None = None,
    ) -> Overseen | None:
        """Return the worker that the environment says we are, and take it out of there; None: we are none.

        Raises NoSupervisor.
        """
        control = environment.pop(messages.SUPERVISOR, None)
        channel = environment.pop(messages.TAKEOVER, None)
        if control is None:
            return None
        try:
            sock = _inherited(control)
            return cls(sock, None if channel is None else _inherited(channel), handover, answer)
        except (OSError, ValueError) as exc:
            raise NoSupervisor(f"{messages.SUPERVISOR}={control}: {exc}") from exc

    @property
    def alone(self) -> bool:
        """The supervisor has died."""
        return self._lost.is_set()

    def hello(
        self,
        workers: int,
        *,
        log_format: str = "auto",
        log_level: str = "info",
        control: str = "",
        generations: int = 4,
    ) -> None:
        """Say that the configuration has been read, and how many workers it wants. Raises NoSupervisor.

        ``control``: where the control socket is to be, if not at its usual place. ``generations``: see
        TakeoverConfig.
        """
        if not self.count:
            self.count = workers
        elif self.count != workers:
            _logger.warning("workers: %d hold from the next start, %d run", workers, self.count)
        message = {
            "kind": "hello",
            "v": messages.VERSION,
            "workers": workers,
            "log_format": log_format,
            "log_level": log_level,
            "control": control,
            "generations": generations,
        }
        try:
            messages.send(self._socket, message)
        except OSError as exc:
            raise NoSupervisor(f"the supervisor has ended: {exc}") from exc

    def failed(self, why: str) -> None:
        """Say why this process is about to end without having served; whoever asked for an upgrade hears it."""
        with contextlib.suppress(OSError):
            messages.send(self._socket, {"kind": "failed", "why": why[:MOST_WHY]})

    # ---- life

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hear what the supervisor says, until cancelled. Its end is not the end of this."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                self._nursery.start_soon(self._write)
                await self._read()
                _logger.warning("the supervisor has ended: this worker goes on without it")
                self._lose()
                await trio.sleep_forever()  # whoever hands over does so to the end
        finally:
            self._nursery = None
            self._lose()
            self._drop_unsent()

    def close(self) -> None:
        """Say nothing any more: the last that happens. Idempotent."""
        self._socket.close()
        if self._channel is not None:
            self._channel.close()

    async def begin(self, runtime: Runs, ended: trio.Event, accepting: trio.Event) -> bool:
        """Say that we could accept, and do so when it is time. Returns whether ours is to say where we listen.

        ``ended``, ``accepting``: of the runtime. Returns in any case when it ends.
        """
        self._runtime, self._accepting = runtime, accepting
        async with trio.open_nursery() as nursery:

            async def watch(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            for event in (ended, accepting, self._start, self._lost):
                nursery.start_soon(watch, event)
            ordinary()
            self._say({"kind": "prepared"})
            if self._channel is not None and self._nursery is not None:
                channel, self._channel = self._channel, None
                self._nursery.start_soon(self._take, runtime, channel)
        if not ended.is_set() and (self._start.is_set() or self._lost.is_set()):
            runtime.accept()
        return self._announce

    def steer(self, steering: Steering) -> None:
        """Let it be told from now on what the supervisor says, and what it has said already."""
        self._steering = steering
        orders, self._orders = self._orders, []
        for kind, name in orders:
            self._order(kind, name)

    def report(self, progress: Mapping[str, object]) -> None:
        """Tell whoever has asked for an upgrade how it goes. Never waits."""
        self._say({**progress, "kind": "report"})

    # ---- listeners

    async def open(self, config: ListenerConfig, *, single: bool) -> Sequence[socket.socket]:
        """See ListenerSource."""
        answer = await self._ask(
            {
                **_listener("listen", config),
                "backlog": config.backlog,
                "reuse_port": config.reuse_port,
                "single": single,
            }
        )
        if answer is None:
            if self.alone:
                return await self._own.open(config, single=single)
            self.forget(config)
            raise ListenError(f"cannot listen on {config.address}: the supervisor does not answer")
        message, found = answer
        if message["kind"] != "listening" or not found:
            messages.close_all(found)
            raise ListenError(text(message, "why", f"cannot listen on {config.address}"))
        return [_socket_of(descriptor) for descriptor in found]

    async def release(self, config: ListenerConfig) -> bool:
        """See ListenerSource."""
        answer = await self._ask(_listener("release", config))
        if answer is None:
            # Nobody can say it. Whoever has handed over knows that there is another one.
            return not self._gives
        return flag(answer[0], "last")

    def forget(self, config: ListenerConfig) -> None:
        """See ListenerSource."""
        self._say(_listener("release", config))

    def ended(self, config: ListenerConfig) -> None:
        """See ListenerSource. Paths are the supervisor's to remove, as long as it lives."""
        if self.alone and not self._gives:
            self._own.ended(config)

    # ---- messages out

    async def _ask(self, message: dict[str, object]) -> Answer | None:
        if self.alone:
            return None
        question, id_ = _Question(), next(self._ids)
        self._questions[id_] = question
        try:
            self._say({**message, "id": id_})
            with trio.move_on_after(PATIENCE):
                await question.answered.wait()
        except BaseException:
            if question.answer is not None:
                messages.close_all(question.answer[1])
            raise
        finally:
            self._questions.pop(id_, None)
        return question.answer

    def _say(self, message: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        if self.alone:
            return
        packed = messages.pack(message)
        if not self._unsent:
            try:
                messages.send_packed(self._socket, packed, descriptors)
                return
            except BlockingIOError:
                pass
            except OSError:
                return  # reading says that it is gone
        if len(self._unsent) < MOST_WAITING:
            self._unsent.append((packed, _copies(descriptors)))
            self._unsent_more.set()

    async def _write(self) -> None:
        while True:
            await self._unsent_more.wait()
            self._unsent_more = trio.Event()
            while self._unsent:
                await trio.lowlevel.wait_writable(self._socket)
                packed, descriptors = self._unsent[0]
                try:
                    messages.send_packed(self._socket, packed, descriptors)
                except BlockingIOError:
                    continue
                except OSError:
                    self._drop_unsent()
                    return
                self._unsent.popleft()
                messages.close_all(descriptors)

    def _drop_unsent(self) -> None:
        while self._unsent:
            messages.close_all(self._unsent.popleft()[1])

    # ---- messages in

    async def _read(self) -> None:
        while True:
            try:
                heard = messages.receive(self._socket)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
                continue
            except (OSError, ValueError) as exc:
                _logger.error("the supervisor cannot be understood: %s", exc)
                return
            if heard is None:
                return
            try:
                self._heard(*heard)
            except ValueError as exc:
                messages.close_all(heard[1])
                _logger.error("the supervisor cannot be understood: %s", exc)

    def _lose(self) -> None:
        self._lost.set()
        self.siblings.lose()
        for question in self._questions.values():
            question.answered.set()

    def _heard(self, message: dict[str, object], found: list[int]) -> None:
        kind = message["kind"]
        if kind in ("listening", "refused", "released"):
            question = self._questions.pop(number(message, "id"), None)
            if question is not None:
                question.answer = message, found
                question.answered.set()
                return
        elif kind in ("others", "told"):
            self.siblings.heard(message, found)
        elif kind == "asked":
            if self._nursery is not None:
                asked, what = number(message, "ask"), text(message, "what")
                self._nursery.start_soon(self.siblings.answer, asked, what, self._answerer())
        elif kind == "give" and found:
            self._begin_to_give(_socket_of(found.pop(0)), message)
        elif kind == "take" and found:
            self._begin_to_take(_socket_of(found.pop(0)))
        elif kind == "start":
            self._announce = flag(message, "announce")
            self._start.set()
        elif kind in ("drain", "cut", "reload"):
            self._order(str(kind), text(message, "signal", "the supervisor"))
        messages.close_all(found)

    def _answerer(self) -> Callable[[str], Awaitable[bytes | None]] | None:
        if self._answer is None or self._runtime is None:
            return None
        return functools.partial(self._answer, self._runtime)

    def _order(self, kind: str, name: str) -> None:
        if self._steering is None:
            self._orders.append((kind, name))
        elif kind == "drain":
            self._steering.drain(name)
        elif kind == "cut":
            self._steering.cut(name)
        else:
            told = trio.Event()
            self._steering.reload(name, told)
            if self._nursery is not None:
                self._nursery.start_soon(self._tell_reloaded, told)

    async def _tell_reloaded(self, told: trio.Event) -> None:
        await told.wait()
        self._say({"kind": "reloaded"})

    # ---- handing over

    def _begin_to_give(self, channel: socket.socket, message: Mapping[str, object]) -> None:
        to = number(message, "to", 0)
        if self._nursery is None or self._runtime is None:
            channel.close()
        elif _has_gone(channel):
            # We were stopped, and are told so late: perhaps the next one waits already.
            channel.close()
            self.report({"step": "withdrawn", "why": "the new process has ended", "to": to})
        elif flag(message, "check"):
            self._nursery.start_soon(self._rehearse, self._runtime, channel, to)
        else:
            self._to_give.set()
            back = flag(message, "back")
            self._nursery.start_soon(self._give, self._runtime, channel, to, back)

    async def _give(self, runtime: Runs, channel: socket.socket, to: int, back: bool) -> None:
        self._gives = True

        def report(progress: Mapping[str, object]) -> None:
            if progress.get("step") == "withdrawn" and runtime.accepting.is_set():
                self._gives = False  # this one serves on, and is the last again
            self.report({**progress, "to": to})

        if back:
            try:
                await self._took.wait()  # that it was withdrawn may be heard later
            except BaseException:
                channel.close()
                raise
        await self._handover.give(runtime, channel, report)

    async def _rehearse(self, runtime: Runs, channel: socket.socket, to: int) -> None:
        await self._handover.rehearse(
            runtime, channel, lambda progress: self.report({**progress, "to": to})
        )

    def _begin_to_take(self, channel: socket.socket) -> None:
        # Of a process that is older than the one whose place was taken.
        if self._nursery is None or self._runtime is None or self._accepting is None:
            channel.close()
            return
        self._nursery.start_soon(self._take_more, self._runtime, self._accepting, channel)

    async def _take_more(
        self, runtime: Runs, accepting: trio.Event, channel: socket.socket
    ) -> None:
        try:
            await accepting.wait()  # what it is told by its predecessor may be heard later
        except BaseException:
            channel.close()
            raise
        await self._handover.take(runtime, channel, self.report)

    async def _take(self, runtime: Runs, channel: socket.socket) -> None:
        await self._handover.take(runtime, channel, self.report)
        self._took.set()
        if runtime.accepting.is_set():
            return
        # It was withdrawn, or only a rehearsal.
        with trio.move_on_after(GIVE_BACK):
            await self._to_give.wait()
        if not self._to_give.is_set():
            runtime.stop()


def _listener(kind: str, config: ListenerConfig) -> dict[str, object]:
    address = config.address
    return {
        "kind": kind,
        "name": config.name,
        "host": address.host,
        "port": address.port,
        "path": address.path,
    }


def _socket_of(descriptor: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as exc:
        os.close(descriptor)
        raise ValueError(f"what came is no socket: {exc.strerror}") from exc
    sock.setblocking(
        False
    )  # whoever sent it has seen to it, but one that blocks would hold everybody
    return sock


def _has_gone(channel: socket.socket) -> bool:
    poll = select.poll()
    poll.register(channel, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def _copies(descriptors: Sequence[int]) -> list[int]:
    try:
        return [os.dup(one) for one in descriptors]
    except OSError:
        return []  # none is left; whoever gets the message sees that it lacks one


def _inherited(descriptor: str) -> socket.socket:
    # Not for the processes that we start.
    os.set_inheritable(int(descriptor), False)
    sock = socket.socket(fileno=int(descriptor))
    sock.setblocking(False)
    return sock


def _first_message(sock: socket.socket) -> dict[str, object]:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    if not poll.poll(PATIENCE * 1000):
        raise NoSupervisor("the supervisor does not say anything")
    heard = messages.receive(sock)
    if heard is None:
        raise NoSupervisor("the supervisor has ended")
    message, found = heard
    messages.close_all(found)
    if message["kind"] != "welcome" or number(message, "v") != messages.VERSION:
        raise NoSupervisor("the supervisor speaks another version")
    return message
