"""A cluster's endpoints and their outlier detection, without a network."""

from __future__ import annotations

from random import Random
from typing import Final

import attrs
from trio.testing import MockClock

from tests.attempts import attempts_of
from xproxy.config.health import OutlierDetectionConfig
from xproxy.model.address import Address
from xproxy.stream.ending import AttemptEnding
from xproxy.upstream.attempt import Attempt
from xproxy.upstream.endpoint import Endpoint, Unfit
from xproxy.upstream.health.marks import Marks
from xproxy.upstream.health.outlier import OutlierDetector
from xproxy.upstream.stats import ClusterStats

ALL: Final[dict[str, object]] = {"max_ejection_percent": 100}


def endpoints_of(count: int) -> list[Endpoint]:
    return [Endpoint(Address("192.0.2.1", 1 + number)) for number in range(count)]


class Drawn(Random):
    """Gives one number again and again."""

    def __init__(self, number: float) -> None:
        super().__init__(0)
        self.number = number

    def random(self) -> float:
        return self.number


@attrs.define(eq=False)
class Outliers:
    """``advance`` is an interval of the detector's, as its task would do it."""

    endpoints: list[Endpoint]
    stats: ClusterStats
    detector: OutlierDetector
    clock: MockClock | None
    told: list[int]

    @classmethod
    def of(
        cls,
        count: int,
        clock: MockClock | None = None,
        random: Random | None = None,
        **options: object,
    ) -> Outliers:
        endpoints, stats, told = endpoints_of(count), ClusterStats(), list[int]()
        marks = Marks(stats, lambda: told.append(1))
        marks.recount(endpoints)
        config = OutlierDetectionConfig(**options)  # type: ignore[arg-type]  # by name, each its own
        detector = OutlierDetector(
            "web", config, lambda: endpoints, marks, stats, random or Random(7)
        )
        return cls(endpoints, stats, detector, clock, told)

    def answer(self, number: int, *codes: int) -> None:
        for code in codes:
            self.detector.answered(self.endpoints[number], code)

    def fail(self, number: int, times: int = 1, code: int = 503) -> None:
        for _ in range(times):
            self.detector.failed(self.endpoints[number], code)

    def attempt(self, number: int, how: AttemptEnding, code: int | None = None) -> None:
        attempt = Attempt(attempts_of(self.detector.ended), self.endpoints[number], None)
        attempt.code = code
        attempt.end(how)

    def advance(self, intervals: int = 1) -> None:
        assert self.clock is not None
        for _ in range(intervals):
            self.clock.jump(self.detector.config.interval)
            self.detector.interval()

    @property
    def ejected(self) -> list[int]:
        found = [n for n, one in enumerate(self.endpoints) if one.unfit & Unfit.EJECTED]
        assert self.stats.ejections_active == len(found)
        assert self.stats.membership_healthy == len(self.endpoints) - len(found)
        return found

    def counted(self, event: str) -> int:
        return self.stats.outlier_detection.get(event, 0)
