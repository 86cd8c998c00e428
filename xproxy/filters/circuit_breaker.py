"""Circuit breaker of error rate: what fails too often is not asked for a while, and a fallback is answered.

It goes by the neutral status, so by one rule for every protocol.
(idea: Hystrix; go-chassis:middleware/circuit, whose defaults these are)
"""

from __future__ import annotations

import logging
from typing import Final, final

import attrs
import trio
from attrs.validators import ge, gt, le, max_len, min_len

from xproxy.codecs.state_kinds import amount
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.filters.circuit import Circuit, State, Window
from xproxy.filters.direct_response import DirectResponse
from xproxy.model.errors import DeadlineExceeded, Overflow, StreamError
from xproxy.model.frames import Trailers
from xproxy.model.limits import Duration
from xproxy.model.message import Target
from xproxy.model.status import SERVER_FAULTS, Status
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.carrying import MAX_NAME, CarriedAs, cut_now, seconds_left
from xproxy.stream.ending import BodyEnding, Broke, Complete
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.stream.links import Note
from xproxy.stream.wrapped import WrappedBody

_logger = logging.getLogger(__name__)

_FAULTS: Final = SERVER_FAULTS
"""What is the server's fault, in every protocol."""


@attrs.define(eq=False)
class CircuitStats:
    """Counters of one circuit breaker."""

    opened: int = 0
    """Times it has opened, after failed probes too."""
    half_opened: int = 0
    """Probes that were let through."""
    closed: int = 0
    """Times it has closed again."""
    success: int = 0
    failure: int = 0
    """Timeouts included."""
    timeout: int = 0
    short_circuited: int = 0
    """Refused, as it was open."""
    rejected: int = 0
    """Refused, as there were too many in flight."""
    fallback: int = 0
    """Refused ones that got the fallback."""
    is_open: int = attrs.field(default=0, metadata={"kind": "gauge"})
    """1: open or half open."""
    active: int = attrs.field(default=0, metadata={"kind": "gauge"})
    """Requests that wait for a response head."""


@attrs.frozen
class _Open:
    cut: float
    left: float


_STATE: Final = StateSchema(
    "circuit breaker",
    1,
    StateRecord(_Open, state_field("cut", amount(1e9)), state_field("left", amount(1e9))),
)


@attrs.define(kw_only=True)
class CircuitBreaker:
    """Ask no more for a while, once too many requests have failed.

    Failures are errors of the upstream, requests that took too long, and answers whose neutral status is a fault of
    the server: ``internal``, ``unavailable``, ``unknown``, ``deadline-exceeded``, ``data-loss`` or
    ``resource-exhausted``. After ``sleep_window`` one request is let through as a probe: its outcome decides for all.
    """

    circuit: str = attrs.field(validator=[min_len(1), max_len(MAX_NAME)])
    """Its name in statistics and logs; no two circuit breakers share one."""
    timeout: Duration = attrs.field(default=Duration(1.0), validator=ge(Duration(0.0)))
    """Until the response head. 0: no bound of its own."""
    max_concurrent: int = attrs.field(default=100, validator=ge(1))
    """Requests that wait for a response head at a time; more are refused, and say nothing of the upstream."""
    sleep_window: Duration = attrs.field(default=Duration(10.0), validator=gt(Duration(0.0)))
    """How long it stays open until the next probe."""
    request_volume: int = attrs.field(default=20, validator=ge(1))
    """With fewer outcomes in the window it stays closed."""
    error_percent: float = attrs.field(default=50.0, validator=[gt(0), le(100)])
    """So many percent of the outcomes in the window must be failures."""
    window: Duration = attrs.field(default=Duration(10.0), validator=gt(Duration(0.0)))
    """How far back outcomes count."""
    fallback: DirectResponse | None = None
    """What is answered in place of a refused request. Not given: the protocol's answer for overload (flag UO)."""

    _circuit: Circuit = attrs.field(init=False, eq=False, repr=False)
    _stats: CircuitStats = attrs.field(factory=CircuitStats, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._circuit = Circuit(
            window=Window(self.window),
            sleep_window=self.sleep_window,
            volume=self.request_volume,
            error_percent=self.error_percent,
        )

    def statistics(self) -> tuple[str, str, CircuitStats]:
        """See SupportsStatistics."""
        return "circuit_breaker", self.circuit, self._stats

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Raises Overflow for a request that is refused, where there is no fallback."""
        stats = self._stats
        if stats.active >= self.max_concurrent:
            stats.rejected += 1
            return await self._refuse(
                request, call_next, f"{self.max_concurrent} requests are in flight (max_concurrent)"
            )
        admitted = self._circuit.admit(trio.current_time())
        if admitted is False:
            stats.short_circuited += 1
            return await self._refuse(request, call_next, "it is open")
        call = _Call(self, probe=admitted is None)
        if call.probe:
            stats.half_opened += 1
            self._say("is half open: a probe goes through")
        stats.active += 1
        try:
            response = await self._ask(request, call_next)
        except StreamError as error:
            if error.condition:
                call.ended(failed=True)
            else:
                call.gave_up()  # the client's doing, or refused here
            raise
        except BaseException:
            call.gave_up()
            raise
        finally:
            stats.active -= 1
        body = response.body
        target = request.head.extra
        if type(body) is BytesBody:
            status = body.trailers.status if body.trailers is not None else None
            call.ended(failed=(status or response.head.status) in _FAULTS)
        elif isinstance(target, Target) and target.rpc is None:
            call.ended(failed=response.head.status in _FAULTS)
        else:
            # How a call went is said at its end.
            response.body = CalledBody(body, call, response.head.status)
        return response

    async def _ask(self, request: Request, call_next: Handler) -> Response:
        if not self.timeout:
            return await call_next(request)
        with trio.move_on_after(self.timeout):
            return await call_next(request)
        self._stats.timeout += 1
        raise DeadlineExceeded(f"no response head in {self.timeout:g} s (circuit_breaker.timeout)")

    async def _refuse(self, request: Request, call_next: Handler, why: str) -> Response:
        detail = f"circuit breaker {self.circuit}: {why}"
        if self.fallback is None:
            raise Overflow(detail)
        self._stats.fallback += 1
        response = await self.fallback(request, call_next)
        request.record.flag(Overflow.flag)
        request.record.detail = detail
        return response

    def ended(self, *, failed: bool, probe: bool) -> None:
        """A request that was let through has ended: for ``CalledBody`` and this class."""
        stats, circuit = self._stats, self._circuit
        stats.failure += failed
        stats.success += not failed
        before = circuit.state
        circuit.ended(trio.current_time(), failed=failed, probe=probe)
        if circuit.state is before:
            return
        if circuit.state is State.OPEN:
            stats.opened += 1
            self._say(f"is open for {self.sleep_window:g} s: too many requests have failed")
        else:
            stats.closed += 1
            self._say("is closed")
        stats.is_open = int(circuit.state is not State.CLOSED)

    def gave_up(self) -> None:
        """A probe ended without an outcome: likewise."""
        self._circuit.gave_up(trio.current_time())

    def _say(self, what: str) -> None:
        _logger.warning("circuit breaker %s %s", self.circuit, what)

    # ---- moving to another process

    def carried_as(self) -> CarriedAs:
        """See SupportsCarry."""
        return CarriedAs(kind="circuit breaker", name=self.circuit, version=1)

    def carry(self) -> bytes:
        """See SupportsCarry: whether it is open, and for how long. A probe that is under way stays behind."""
        circuit = self._circuit
        if circuit.state is State.CLOSED:
            return b""
        left = circuit.until - trio.current_time() if circuit.state is State.OPEN else 0.0
        return _STATE.pack(_Open(cut_now(), max(0.0, left)))

    def resume(self, data: bytes) -> None:
        """See SupportsCarry. It is not open for longer than this configuration says."""
        told = _STATE.unpack(data)
        circuit = self._circuit
        circuit.state = State.OPEN
        left = seconds_left(min(told.left, self.sleep_window), told.cut)
        circuit.until = trio.current_time() + left
        self._stats.is_open = 1


class _Call:
    """A request that was let through; the first thing that is told of it counts."""

    __slots__ = ("_of", "_told", "probe")

    def __init__(self, of: CircuitBreaker, *, probe: bool) -> None:
        self._of = of
        self._told = False
        self.probe = probe

    def ended(self, *, failed: bool) -> None:
        """It has an outcome."""
        if not self._told:
            self._told = True
            self._of.ended(failed=failed, probe=self.probe)

    def gave_up(self) -> None:
        """It has none."""
        if not self._told:
            self._told = True
            if self.probe:
                self._of.gave_up()


@final
class CalledBody(WrappedBody):
    """The body of a call's response: its end says how the call went."""

    __slots__ = ("_call", "_status")

    def __init__(self, inner: Body, call: _Call, status: Status) -> None:
        super().__init__(inner)
        self._call = call
        self._status = status

    def ended(self, how: BodyEnding) -> None:
        """See WrappedBody."""
        if isinstance(how, Broke):
            self._call.ended(failed=True)
        elif isinstance(how, Complete):
            trailers: Trailers | None = how.trailers
            status = trailers.status if trailers is not None else None
            self._call.ended(failed=(status or self._status) in _FAULTS)
        else:
            self._call.gave_up()

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote: in another process nobody needs to know."""
        return self.inner, None

    def depart(self) -> None:
        """See SupportsNote."""
        super().depart()
        self._call.gave_up()
