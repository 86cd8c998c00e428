"""Invariant: any text is a configuration, or ConfigError names mistakes with their places; nothing else is raised."""

from __future__ import annotations

import re

from fuzz.targets import Seed, Target
from xproxy.config.load import load_text
from xproxy.config.schema import Config
from xproxy.model.errors import ConfigError
from xproxy.registry import Registry
from xproxy.testing.subject import Broken

_PLACE = re.compile(r"fuzz\.yaml:\d+:\d+")

_SEEDS = (
    """\
listeners:
  - {name: edge, address: "127.0.0.1:15001", codecs: [http1, bolt], fallback: {cluster: a}, routes: main}
routes:
  main:
    - hosts: ["reviews:9080", "*.local"]
      match: {path: {prefix: /}, headers: {cookie: {regex: "(.*; )?user=jason(;.*)?"}}, method: GET}
      cluster: {a: 99, b: 1}
      timeout: 3s
      filters: [{name: retry, on: [connect-failure], attempts: 2}]
    - cluster: a
clusters:
  a: {endpoints: [127.0.0.1:9082, {address: "[::1]:9083", weight: 3, metadata: {zone: z}}], connect_timeout: 250ms}
  b: {endpoints: [unix:/run/b.sock], codec: same, load_balancer: least_request}
admin: {address: 127.0.0.1:9901}
""",
    "listeners: []\n",
    "listeners: &a [*a]\n",
    "? [a, b]\n: {c: !!python/object:os.system x}\n",
    "a: 1\na: 2\n",
    "- 1e999\n- .nan\n- 0x10\n- 2001-01-01\n- ~\n",
    "listeners:\n\t- name: tab\n",
)


def target(registry: Registry) -> Target:
    """Return the target of the configuration loader, with the plugins of ``registry``."""

    def check(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        try:
            config = load_text(text, "fuzz.yaml", registry)
        except ConfigError as exc:
            if not _PLACE.search(str(exc)):
                raise Broken(f"a finding without a place: {exc}", data) from exc
            return
        if not isinstance(config, Config):
            raise Broken(f"load_text gives a {type(config).__name__}", data)

    return Target(
        name="config",
        check=check,
        seeds=lambda: [Seed(f"file-{i}", text.encode()) for i, text in enumerate(_SEEDS)],
    )
