"""What the peer of a shared connection asks of us: its streams by id, each served by a worker."""

from __future__ import annotations

from typing import Final

import trio

from xproxy.connection.phase import Phase
from xproxy.connection.service import FilterChain
from xproxy.connection.shared.wire import SharedWire
from xproxy.connection.shared.worker import Worker
from xproxy.connection.standing import RelayedStream
from xproxy.model.errors import RequestBroken, StreamError
from xproxy.model.frames import Head, Reset
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.record import RetryPermits
from xproxy.transport.timers import Timers

_SERVING: Final = Phase.SERVING
_IDLE_WORKERS: Final = 64
"""Stream tasks kept for the next streams of a connection: handing over costs a third of a spawn."""


class Served:
    """All streams of one connection that the peer began. Without a port, each is refused."""

    __slots__ = (
        "_awaited",
        "_chain",
        "_client_gone",
        "_per_stream",
        "_spare_key",
        "_timers",
        "_wire",
        "answered_late",
        "by_id",
        "idle",
    )

    def __init__(self, wire: SharedWire, chain: FilterChain | None, timers: Timers) -> None:
        self._wire = wire
        self._chain = chain
        self._timers = timers
        # Where bodies come in pieces, credit and resets must go on being read while all streams wait for them: there
        # the codec refuses streams above the limit itself, and ours is only the last resort.
        self._per_stream = 1 if wire.whole else 2
        self._awaited: trio.Event | None = None
        self._spare_key = 0
        self._client_gone = False
        self.by_id: dict[int, Worker] = {}
        wire.served = self.by_id
        """Those in flight."""
        self.idle: list[Worker] = []
        """Wait for their next stream; at most ``_IDLE_WORKERS``."""
        self.answered_late = False
        """A stream has ended after the connection took its last ones."""

    @property
    def crowded(self) -> bool:
        """As many streams are in flight as may be (``max_streams``)."""
        chain, relayed = self._chain, self._wire.relayed
        count = len(self.by_id)
        if relayed:
            count += len(relayed)
        return chain is not None and count >= chain.service.max_streams * self._per_stream

    async def room(self) -> None:
        """Return when another stream may begin."""
        while self.crowded:
            await self.change()

    async def change(self) -> None:
        """Return when a stream has ended."""
        if self._awaited is None:
            self._awaited = trio.Event()
        await self._awaited.wait()

    def asked(self, permits: RetryPermits) -> int:
        """Return how many of the requests in flight were given to the cluster whose permits these are."""
        return sum(
            worker.request is not None and worker.request.record.permits is permits
            for worker in self.by_id.values()
        )

    def freed(self) -> None:
        """A stream has ended: there may be room for another one."""
        if self._awaited is not None:
            awaited, self._awaited = self._awaited, None
            awaited.set()

    def in_flight(self) -> list[RelayedStream]:
        """Return what another process must know of those that are owed an answer."""
        return [worker.relayed for worker in self.by_id.values() if not worker.oneway]

    # ---- what comes

    def requested(self, frame: Head) -> None:
        """Take a request head: somebody serves its stream."""
        chain = self._chain
        if chain is None:
            wire = self._wire
            wire.outbox.put(wire.codec.send(Head(frame.stream_id, _REFUSED, b"", True)))
            return
        key = frame.stream_id
        if key in self.by_id:
            # Nobody answers one-way messages, so several in flight may have one id; each counts as a stream.
            self._spare_key -= 1
            key = self._spare_key
        if self.idle:
            worker = self.idle.pop()
            self.by_id[key] = worker
            worker.hand_over(frame, key)
        else:
            worker = Worker(self._wire, self, chain, self._timers, frame, key)
            self.by_id[key] = worker
            self._wire.spawn(worker.run)
        if frame.end and self._wire.flow is not None:
            self._wire.consumed(frame.stream_id, len(frame.data))

    def reset(self, frame: Reset) -> None:
        """Take the peer's reset; of a stream that is over it means nothing."""
        worker = self.by_id.get(frame.stream_id)
        if worker is not None:
            if worker.inflow is not None:
                worker.inflow.fail(
                    RequestBroken(f"the client reset the stream ({frame.status.label})")
                )
            worker.cancel()

    # ---- the workers

    def done(self, worker: Worker) -> bool:
        """A worker has finished its stream. True: wait for another one."""
        del self.by_id[worker.key]
        if self._awaited is not None:
            self.freed()
        if self._wire.phase is not _SERVING:
            self.answered_late = True
            self._wire.finish_if_idle()
            return False
        if len(self.idle) >= _IDLE_WORKERS:
            return False
        self.idle.append(worker)
        return True

    def withdraw(self, worker: Worker) -> None:
        """A worker that was interrupted cannot wait for another stream. Idempotent."""
        if worker in self.idle:
            self.idle.remove(worker)

    # ---- the end

    def dismiss(self) -> None:
        """No stream will begin any more: those who wait for one go home."""
        for worker in self.idle:
            worker.dismiss()
        self.idle.clear()

    def relieve(self, error: StreamError) -> bool:
        """End the streams that hold most with ``error``; all, if none is known to. Returns whether there were any."""
        holding = [worker for worker in self.by_id.values() if worker.holds]
        stopped = holding or list(self.by_id.values())
        for worker in stopped:
            worker.stop(error)
        return bool(stopped)

    def cut_off(self) -> None:
        """No more of any request will come. What was asked in full is still answered."""
        for worker in self.by_id.values():
            if worker.inflow is not None:
                worker.inflow.fail(RequestBroken("the request ended in the middle of its body"))

    def cancel(self) -> bool:
        """Stop all streams but one-way messages; returns whether there were any."""
        waiting = [worker for worker in self.by_id.values() if not worker.oneway]
        for worker in waiting:
            worker.cancel()
        return bool(waiting)

    def client_gone(self) -> None:
        """Nobody waits for answers any more."""
        if self.cancel() and self._chain is not None and not self._client_gone:
            self._client_gone = True
            self._chain.stats.downstream_cx_destroy_remote += 1

    def end(self) -> None:
        """The connection has ended."""
        for worker in (*self.by_id.values(), *self.idle):
            worker.discard()
        # Their tasks have ended: what was cut off is not taken out by itself, and each knows this.
        self.by_id.clear()


_REFUSED: Final = ResponseHead(status=Status.UNIMPLEMENTED)
