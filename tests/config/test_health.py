"""What may be written about health, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.live import registry, web
from xproxy.config.dump import config_dump
from xproxy.config.findings import InvalidConfig
from xproxy.config.health import OutlierDetectionConfig
from xproxy.config.load import load_text
from xproxy.config.schema import ClusterConfig

REGISTRY = registry()
CHECK = "{timeout: 1s, interval: 5s, unhealthy_threshold: 3, healthy_threshold: 2, check: redis}"


def cluster(**fields: object) -> ClusterConfig:
    text = web(1, **fields)  # type: ignore[arg-type]  # none of them is `timeouts`
    return load_text(text, "x", REGISTRY).clusters["web"]


def test_nothing_is_watched_unless_asked_for() -> None:
    found = cluster()
    assert found.outlier_detection is None
    assert found.health_checks == ()


def test_true_stands_for_the_defaults() -> None:
    assert cluster(outlier_detection="true").outlier_detection == OutlierDetectionConfig()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"outlier_detection": "{consecutive_5xx: 0}"}, "consecutive_5xx"),
        ({"outlier_detection": "{max_ejection_percent: 101}"}, "max_ejection_percent"),
        ({"outlier_detection": "{interval: 0}"}, "interval"),
        ({"outlier_detection": "{consecutive_5x: 1}"}, "did you mean `consecutive_5xx`"),
        ({"health_checks": f"[{CHECK.replace('timeout: 1s, ', '')}]"}, "key `timeout` is missing"),
        ({"health_checks": f"[{CHECK.replace('interval: 5s', 'interval: 0')}]"}, "interval"),
        ({"health_checks": f"[{', '.join([CHECK] * 9)}]"}, "its length must be <= 8"),
    ],
)
def test_what_is_wrong_is_told(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        cluster(**fields)


def test_checks_are_dumped_as_they_are_written() -> None:
    config = load_text(web(1, health_checks=f"[{CHECK}]"), "x", REGISTRY)
    dumped: Any = config_dump(config)  # Any: plain values all the way down
    (check,) = dumped["clusters"]["web"]["health_checks"]
    assert check["check"] == {"name": "redis", "key": ""}
