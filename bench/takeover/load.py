"""The load: connections that are opened at the start and kept, and requests at a steady rate, whatever happens.

``python -m bench.takeover.load`` reads its orders as one line of JSON, prints ``open`` when every connection is open
and has been answered once, asks until its input ends, and writes what it saw to a file. A further line of input,
``ask``, makes it ask once on every connection, ``turn`` begin anew what lasts on them; then it prints ``done``. One
process and one epoll: it takes a request every millisecond in its stride.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import socket
import ssl
import sys
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import attrs
import cattrs

from bench.lab import raise_file_limit
from bench.takeover.kinds import KINDS, SERVER_NAME
from bench.takeover.line import Line
from bench.takeover.records import OUTCOMES, Log, Opened, Run, percentile
from bench.takeover.speakers.speaker import Answer, Broken

OPEN_SECONDS = 120.0
"""Until all connections are open."""
WARM_UP_SECONDS = 0.5
"""At the beginning of the load, of which no figure is taken."""
ANSWER_SECONDS = 10.0
"""What is in flight when the load stops may take so long."""
_OPENING = 32
"""Connections that are opened at a time: a proxy with one core has to do a handshake for each."""
_GOOD, _FAILED, _MISMATCH, _UNANSWERED, _UNSENT = range(len(OUTCOMES))
_IN = select.EPOLLIN | select.EPOLLRDHUP
_COMPLAINTS = 50
"""Different ones that are kept."""


@attrs.frozen(kw_only=True)
class Group:
    """Connections of one kind."""

    kind: str
    port: int
    connections: int


@attrs.frozen(kw_only=True)
class Orders:
    """What the load is to do."""

    groups: tuple[Group, ...]
    rate: float
    """Requests a second, of all connections together, each in turn. 0: none but the first ones."""
    authority: str
    """File with the certificates that are trusted."""
    result: str
    """File that is written at the end."""


class _Timer:
    """Tells when requests are due, to the microsecond: ``epoll_wait`` knows whole milliseconds only."""

    def __init__(self, first: float, interval: float) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        spec = (ctypes.c_long * 4)(*_parts(interval), *_parts(first))
        absolute = 1
        if self._libc.timerfd_settime(self.fd, absolute, spec, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def passed(self) -> int:
        """Return how often it went off since it was asked last."""
        try:
            return int.from_bytes(os.read(self.fd, 8), sys.byteorder)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        os.close(self.fd)


def _parts(seconds: float) -> tuple[int, int]:
    nanoseconds = max(1, round(seconds * 1e9))
    return nanoseconds // 10**9, nanoseconds % 10**9


@attrs.define(eq=False)
class Load:
    """See the module."""

    orders: Orders
    _input: FileIO
    """Unbuffered, as it is waited for with everything else."""
    lines: list[Line] = attrs.field(factory=list)
    log: Log = attrs.field(factory=Log)
    complaints: Counter[str] = attrs.field(factory=Counter)
    late: array[float] = attrs.field(factory=lambda: array("d"))
    """By how much requests were handled after they were due: the load's own doing."""
    _poll: select.epoll = attrs.field(factory=select.epoll)
    _by_fd: dict[int, Line] = attrs.field(factory=dict)
    _armed: dict[int, bool] = attrs.field(factory=dict)
    """Whether a socket is watched for room to write."""
    _first: int = 0
    """Connections that are opened and not answered yet for the first time."""
    _in_flight: int = 0

    def open(self) -> None:
        """Open all connections and ask once on each; what cannot be opened stays closed, and is complained of."""
        plan = [group for group in self.orders.groups for _ in range(group.connections)]
        contexts = {g.kind: KINDS[g.kind].context(Path(self.orders.authority)) for g in plan}
        deadline = time.monotonic() + OPEN_SECONDS
        # The kinds take turns, so that requests, which go round the connections, are mixed at any time.
        plan = _in_turn(plan)
        while len(self.lines) < len(plan) or self._first:
            while len(self.lines) < len(plan) and self._first < _OPENING:
                group = plan[len(self.lines)]
                self._begin(group, contexts[group.kind])
            if time.monotonic() > deadline:
                for line in self.lines:
                    if line.asked or line.waiting or line.state != "open":
                        self._end(line, f"not open and answered after {OPEN_SECONDS:g} s")
                return
            self._turn(0.5)

    def _begin(self, group: Group, context: ssl.SSLContext | None) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        kind, index = KINDS[group.kind], len(self.lines)
        line = Line(
            index=index,
            kind=group.kind,
            speaker=kind.speaker(index),
            context=context,
            server_name=SERVER_NAME,
            sock=sock,
        )
        self.lines.append(line)
        self._by_fd[sock.fileno()] = line
        self._armed[sock.fileno()] = True
        with contextlib.suppress(BlockingIOError):
            sock.connect(("127.0.0.1", group.port))
        self._poll.register(sock.fileno(), _IN | select.EPOLLOUT)
        self._first += 1
        self._in_flight += 1
        line.waiting.append(time.monotonic())

    def run(self) -> tuple[float, float, float]:
        """Ask until the input ends; return when that began and ended, and what it took of the processor."""
        self._poll.register(self._input.fileno(), select.EPOLLIN)
        rate, lines = self.orders.rate, self.lines
        began, cpu = time.monotonic(), time.process_time()
        timer = _Timer(began, 1.0 / rate) if rate else None
        if timer is not None:
            self._poll.register(timer.fd, select.EPOLLIN)
        due = 0
        try:
            over = False
            while not over:
                for fd, mask in self._poll.poll(0.5):
                    if timer is not None and fd == timer.fd:
                        for _ in range(timer.passed()):
                            self._ask(lines[due % len(lines)], began + due / rate)
                            due += 1
                            if due > WARM_UP_SECONDS * rate:
                                self.late.append(time.monotonic() - began - (due - 1) / rate)
                    elif fd == self._input.fileno():
                        order = self._input.readline().strip()
                        if over := not order:
                            break
                        self._obey(order)
                    else:
                        self._serve(self._by_fd[fd], mask)
        finally:
            if timer is not None:
                timer.close()
        self._poll.unregister(self._input.fileno())
        ended, cpu = time.monotonic(), time.process_time() - cpu
        while self._in_flight and time.monotonic() < ended + ANSWER_SECONDS:
            self._turn(0.1)
        return began, ended, cpu

    def _obey(self, order: bytes) -> None:
        if order == b"turn":
            for line in self.lines:
                self._turn_over(line)
        else:
            self._ask_each()
        print("done", flush=True)

    def _turn_over(self, line: Line) -> None:
        try:
            if line.state != "closed":
                line.turn()
                self._arm(line)
        except Broken as exc:
            self._end(line, str(exc))

    def _ask_each(self) -> None:
        """Ask once on each connection, and wait for the answers."""
        for line in self.lines:
            self._ask(line, time.monotonic())
            self._turn(0.0)
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._in_flight and time.monotonic() < deadline:
            self._turn(0.1)

    def close(self) -> None:
        """Close everything; what was not answered is noted so."""
        for line in self.lines:
            if line.state != "closed":
                for asked in line.asked.values():
                    self.log.note(line.index, asked.due, asked.sent, 0.0, _UNANSWERED)
                for due in line.waiting:
                    self.log.note(line.index, due, 0.0, 0.0, _UNSENT)
                line.sock.close()
        self._poll.close()

    def opened(self) -> tuple[Opened, ...]:
        """Return all connections; before ``close``."""
        return tuple(
            Opened(
                kind=line.kind,
                local_port=line.sock.getsockname()[1] if line.state != "closed" else 0,
                closed_at=line.closed_at,
                why=line.why,
            )
            for line in self.lines
        )

    def _turn(self, seconds: float) -> None:
        for fd, mask in self._poll.poll(seconds):
            if (line := self._by_fd.get(fd)) is not None:
                self._serve(line, mask)

    def _ask(self, line: Line, due: float) -> None:
        if line.state == "closed":
            self.log.note(line.index, due, 0.0, 0.0, _UNSENT)
            return
        self._in_flight += 1
        try:
            line.ask(due, time.monotonic())
        except Broken as exc:
            self._end(line, str(exc))
        else:
            self._arm(line)

    def _serve(self, line: Line, mask: int) -> None:
        if line.state == "closed":
            return
        try:
            if line.state == "connecting":
                line.connected()
            elif mask & select.EPOLLOUT:
                line.flush()
            if mask & ~select.EPOLLOUT:
                answers = line.read()
                if answers:
                    self._note(line, answers)
            while line.waiting and line.may_ask:
                line.ask(line.waiting.popleft(), time.monotonic())
        except Broken as exc:
            self._end(line, str(exc))
        else:
            self._arm(line)

    def _arm(self, line: Line) -> None:
        fd = line.sock.fileno()
        if self._armed[fd] != line.wants_out:
            self._armed[fd] = line.wants_out
            self._poll.modify(fd, _IN | (select.EPOLLOUT if line.wants_out else 0))

    def _note(self, line: Line, answers: Sequence[Answer]) -> None:
        now = time.monotonic()
        for answer in answers:
            asked = line.asked.pop(answer.number)
            self._in_flight -= 1
            if answer.number == 0:
                self._first -= 1
            outcome = _GOOD
            if answer.failed:
                outcome = _FAILED
                self._complain(line, answer.failed)
            elif answer.mismatch:
                outcome = _MISMATCH
                self._complain(line, answer.mismatch)
            self.log.note(line.index, asked.due, asked.sent, now, outcome)

    def _complain(self, line: Line, what: str) -> None:
        text = f"{line.kind}: {what}"
        if text in self.complaints or len(self.complaints) < _COMPLAINTS:
            self.complaints[text] += 1
        else:
            self.complaints["others"] += 1

    def _end(self, line: Line, why: str) -> None:
        line.closed_at, line.why = time.monotonic(), why
        if 0 in line.asked or line.next_number == 0:
            self._first -= 1
        self._in_flight -= len(line.asked) + len(line.waiting)
        for asked in line.asked.values():
            self.log.note(line.index, asked.due, asked.sent, 0.0, _FAILED)
        for due in line.waiting:
            self.log.note(line.index, due, 0.0, 0.0, _UNSENT)
        self._complain(line, why)
        line.state = "closed"
        line.asked.clear()
        line.waiting.clear()
        del self._by_fd[line.sock.fileno()]
        del self._armed[line.sock.fileno()]
        line.sock.close()


def _in_turn(plan: list[Group]) -> list[Group]:
    """Spread groups evenly: each one's n-th of N connections stands at n/N of the whole."""
    seen: Counter[Group] = Counter()
    places: list[tuple[float, int, Group]] = []
    for group in plan:
        places.append((seen[group] / group.connections, len(places), group))
        seen[group] += 1
    return [group for _, _, group in sorted(places, key=lambda place: place[:2])]


def main() -> None:
    """Run as a program."""
    raise_file_limit()
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as orders:
        _carry_out(Load(cattrs.structure(json.loads(orders.readline()), Orders), orders))


def _carry_out(load: Load) -> None:
    load.open()
    gc.collect()
    gc.freeze()
    gc.disable()  # its pauses would look like the proxy's
    print("open", flush=True)
    began, ended, cpu = load.run()
    opened = load.opened()
    load.close()
    run = Run(
        opened=opened,
        requests=(),
        complaints=load.complaints,
        cpu_seconds=cpu,
        late_p99=percentile(load.late, 99),
        late_max=max(load.late, default=0.0),
        began=began,
        ended=ended,
    )
    run.write(Path(load.orders.result), load.log)


if __name__ == "__main__":
    main()
