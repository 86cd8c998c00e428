"""What a supervisor knows, written down for another program that goes on as the same process; and going on from it.

Named fields, with a version for all. What is between two turns of its loop and nowhere else is written: workers,
sockets, commands, those that are to be started again, who waits for an answer. Not written is what comes again by
itself (the exit of a child: waitpid; signals: they are blocked meanwhile), and questions between workers, which have
deadlines of a second.

No upgrade is under way then, and none waits for its confirmation: it is the last step of one.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from xproxy.supervisor.control import Client, Control
from xproxy.supervisor.fields import Fields
from xproxy.supervisor.link import Link
from xproxy.supervisor.log import Log
from xproxy.supervisor.messages import STATE_VERSION
from xproxy.supervisor.renewal import Written
from xproxy.supervisor.sockets import Place
from xproxy.supervisor.supervisor import Supervisor
from xproxy.supervisor.systemd import Given
from xproxy.supervisor.table import Command, Key, Phase, Slot, Worker


class Take(Protocol):
    """What was kept open."""

    def socket(self, descriptor: int) -> socket.socket:
        """Return it as a socket. Raises OSError: it is none."""
        ...

    def descriptor(self, descriptor: int) -> int:
        """Return it as it is, to be closed by the caller."""
        ...


# ---- writing


def write(supervisor: Supervisor) -> Written:
    """Write down what it knows. Changes nothing."""
    workers = supervisor.workers
    descriptors: list[int] = []

    def keep(descriptor: int) -> int:
        descriptors.append(descriptor)
        return descriptor

    now = time.monotonic()
    state: dict[str, object] = {
        "v": STATE_VERSION,
        "command": _command(supervisor.command),
        "next_command": _command(workers.commands[workers.newest]),
        "environment": workers.environment,
        "notify": supervisor.given.notify,
        "watchdog": supervisor.given.watchdog,
        "log": {"human": workers.log.human, "least": workers.log.least},
        "newest": workers.newest,
        "begun": sorted(workers.has_begun),
        "commands": [
            {"generation": generation, **_command(command)}
            for generation, command in workers.commands.items()
        ],
        "workers": [
            _worker(one, workers.links.get(one.id), now, keep)
            for one in workers.table.workers.values()
        ],
        "next": workers.table.next,
        "slots": [
            {
                **_key(key),
                "index": index,
                "activated": slot.activated,
                "holders": sorted(slot.holders),
                "socket": keep(slot.socket.fileno()),
            }
            for (key, index), slot in workers.table.slots.items()
        ],
        "waiting": [
            {"names": names, "socket": keep(slot.socket.fileno())}
            for names, slot in _by_slot(workers.table.waiting)
        ],
        "restarts": [
            {
                "index": index,
                "generation": generation,
                "count": count,
                "seconds": max(workers.restarts[index].at - now, 0.0),
            }
            for index, (generation, count) in supervisor.restarting.items()
            if index in workers.restarts
        ],
        "failures": {str(i): backoff.failures for i, backoff in supervisor.backoffs.items()},
        "reloading": sorted(supervisor.reloading),
        "upgrading": supervisor.upgrading.write(),
        "control": _control(supervisor.upgrading.control, keep),
    }
    finishing = supervisor.upgrading.finishing
    if finishing is not None:
        client, done = finishing
        link = client.link if client is not None else None
        state["finishing"] = {
            "client": link.descriptor if link is not None else None,
            "done": done,
        }
    return Written(json.dumps(state, separators=(",", ":")).encode(), descriptors)


def _command(command: Command) -> dict[str, object]:
    return {
        "executable": command.executable,
        "arguments": command.arguments,
        "environment": dict(command.environment),
        "absent": command.absent,
    }


def _key(key: Key) -> dict[str, object]:
    place = key.place
    return {"name": key.name, "host": place.host, "port": place.port, "path": place.path}


def _worker(
    worker: Worker, link: Link | None, now: float, keep: Callable[[int], int]
) -> dict[str, object]:
    return {
        "id": worker.id,
        "index": worker.index,
        "generation": worker.generation,
        "count": worker.count,
        "phase": worker.phase.value,
        "pid": worker.pid,
        "apart": worker.apart,
        "foreign": worker.foreign,
        "said_hello": worker.said_hello,
        "gives": worker.gives,
        "serving": worker.serving,
        "lived": max(now - worker.since, 0.0),
        "why": worker.why,
        "link": _link(link, keep),
    }


def _link(link: Link | None, keep: Callable[[int], int]) -> dict[str, object] | None:
    if link is None or not link.open:
        return None
    return {
        "socket": keep(link.descriptor),
        "waiting": [
            {"message": packed.decode(), "descriptors": [keep(one) for one in descriptors]}
            for packed, descriptors in link.waiting
        ],
    }


def _by_slot(
    waiting: Mapping[str, Slot[socket.socket]],
) -> Iterable[tuple[list[str], Slot[socket.socket]]]:
    slots = {id(slot): slot for slot in waiting.values()}
    for slot in slots.values():
        yield [name for name, one in waiting.items() if one is slot], slot


def _control(control: Control | None, keep: Callable[[int], int]) -> dict[str, object] | None:
    if control is None:
        return None
    links = (_link(client.link, keep) for client in control.clients)
    return {
        "path": control.path,
        "socket": keep(control.descriptor),
        "clients": [link for link in links if link is not None],
    }


# ---- going on


def resume(data: bytes, take: Take, *, back: bool = False) -> Supervisor:
    """Return the supervisor that goes on from there; ``run`` lets it. Raises ValueError, OSError.

    ``back``: this is the program that has written it, as the next one could not go on. Before ``run`` nothing is said
    to anybody, and nothing is heard.
    """
    try:
        state = Fields(json.loads(data), "the state")
    except RecursionError as exc:
        raise ValueError("the state is nested too deeply") from exc
    if state.number("v") != STATE_VERSION:
        raise ValueError(f"the state has version {state.number('v')}, known is {STATE_VERSION}")
    log = Log()
    log.human = state.inner("log").flag("human")
    log.least = state.inner("log").number("least")
    supervisor = Supervisor(
        _command_of(state.inner("command" if back else "next_command")),
        state.by_name("environment"),
        Given.before(state.text("notify"), state.seconds("watchdog")),
        write,
        log,
    )
    try:
        _resume_workers(supervisor, state, take)
        _resume_sockets(supervisor, state, take)
        _resume_control(supervisor, state, take)
    except BaseException:
        supervisor.let_go()
        raise
    return supervisor


def _command_of(fields: Fields) -> Command:
    return Command(
        fields.text("executable"),
        tuple(fields.texts("arguments")),
        tuple(fields.by_name("environment").items()),
        tuple(fields.texts("absent")),
    )


def _resume_workers(supervisor: Supervisor, state: Fields, take: Take) -> None:
    workers = supervisor.workers
    workers.newest = state.number("newest")
    workers.has_begun.update(state.numbers("begun"))
    for fields in state.objects("commands"):
        workers.commands[fields.number("generation")] = _command_of(fields)
    if workers.newest not in workers.commands:
        raise ValueError("the state has no command for the generation that serves")
    now = time.monotonic()
    for fields in state.objects("workers"):
        worker = Worker(
            fields.number("id"),
            fields.number("index"),
            fields.number("generation"),
            fields.number("count"),
        )
        worker.phase = Phase(fields.text("phase"))
        worker.pid = fields.number("pid")
        worker.apart = fields.flag("apart")
        worker.foreign = fields.flag("foreign")
        worker.said_hello = fields.flag("said_hello")
        worker.gives = fields.flag("gives")
        worker.serving = fields.counts("serving")
        worker.since = now - fields.seconds("lived")
        worker.why = fields.text("why")
        workers.table.workers[worker.id] = worker
        if "link" in fields:
            workers.connect(worker, *_link_of(fields.inner("link"), take))
    workers.table.next = state.number("next")
    if workers.table.next <= max(workers.table.workers, default=0):
        raise ValueError("the state would give a worker's id to another")
    for index, failures in state.by_number("failures").items():
        supervisor.backoff(index).failures = failures
    supervisor.reloading.update(state.numbers("reloading"))
    for fields in state.objects("restarts"):
        supervisor.restart_after(
            fields.seconds("seconds"),
            fields.number("index"),
            fields.number("generation"),
            fields.number("count"),
        )


def _link_of(fields: Fields, take: Take) -> tuple[socket.socket, list[tuple[bytes, list[int]]]]:
    waiting = [
        (one.text("message").encode(), [take.descriptor(n) for n in one.numbers("descriptors")])
        for one in fields.objects("waiting")
    ]
    return take.socket(fields.number("socket")), waiting


def _resume_sockets(supervisor: Supervisor, state: Fields, take: Take) -> None:
    table = supervisor.workers.table
    for fields in state.objects("slots"):
        place = Place(fields.text("host"), fields.number("port"), fields.text("path"))
        slot = Slot(take.socket(fields.number("socket")), activated=fields.flag("activated"))
        slot.holders.update(fields.numbers("holders"))
        table.slots[Key(fields.text("name"), place), fields.number("index")] = slot
    for fields in state.objects("waiting"):
        slot = Slot(take.socket(fields.number("socket")), activated=True)
        table.waiting.update((name, slot) for name in fields.texts("names"))


def _resume_control(supervisor: Supervisor, state: Fields, take: Take) -> None:
    upgrading = supervisor.upgrading
    control: Control | None = None
    clients: dict[int, Client] = {}
    if "control" in state:
        fields = state.inner("control")
        listening = take.socket(fields.number("socket"))
        log = supervisor.workers.log
        control = Control(supervisor.loop, fields.text("path"), upgrading.asked, log, listening)
        for one in fields.objects("clients"):
            clients[one.number("socket")] = control.take(*_link_of(one, take))
    known = state.inner("upgrading")
    upgrading.recall(known.number("most_generations"), known.by_number("gives_to"), control)
    if "finishing" in state:
        fields = state.inner("finishing")
        client = clients.get(fields.number("client")) if "client" in fields else None
        if client is not None:
            client.asks()  # so that it may wait
        upgrading.finishing = client, fields.plain("done")
