"""How a cluster's requests are spread over its endpoints, beside what its balancer does: levels and panic."""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs
from attrs import field
from attrs.validators import ge, le, matches_re, max_len, min_len, optional

from xproxy.model.limits import Duration


@attrs.frozen(kw_only=True)
class SubsetsConfig:
    """Parts of a cluster by its endpoints' metadata. A request says which it wants: by the ``metadata_match`` of its
    route, and by headers.
    """

    selectors: tuple[tuple[str, ...], ...] = field(validator=[min_len(1), max_len(32)])
    """Names of metadata, each list for itself: endpoints that agree in all of a list's values are a subset. A request
    goes by the list that has just the names it says something of; the order in a list does not matter."""
    fallback: Literal["none", "any", "default"] = "none"
    """Where a request goes for which there is no subset: nowhere (it is refused), to any endpoint, or to those of
    ``default``."""
    default: dict[str, str] = field(factory=dict)
    """What the metadata of endpoints must say for these."""
    headers: dict[str, str] = field(factory=dict)
    """Metadata → the header (or attachment) whose value a request wants of it, where its route says nothing of it."""
    max_subsets: int = field(default=1024, validator=[ge(1), le(65_536)])
    """So many are kept ready; one more, and the one that was made first is made anew when it is asked for."""

    def __attrs_post_init__(self) -> None:
        if self.fallback == "default" and not self.default:
            raise ValueError("`default` is missing, and `fallback` is default")


@attrs.frozen(kw_only=True)
class LocalityConfig:
    """How requests are spread over the localities of a priority. A locality is written ``region/zone/sub_zone``, and
    without the parts at its end that are empty.
    """

    mode: Literal["weighted", "zone_aware"]
    """``weighted``: by ``weights``, each locality as far as it is healthy. ``zone_aware``: in the proxy's own, as far
    as that can take it; in the best priority only."""
    weights: dict[str, int] = field(factory=dict)
    """Of localities; one that is not named has 1, and one of 0 gets nothing."""
    local: str = ""
    """``zone_aware``: the locality of this proxy."""
    proxies: dict[str, int] = field(factory=dict)
    """``zone_aware``: how many proxies there are in each locality. Not given: as many in each that has endpoints."""
    min_cluster_size: int = field(default=6, validator=ge(1))
    """``zone_aware``: with fewer healthy endpoints it makes no difference where one is."""
    routing_enabled: int = field(default=100, validator=[ge(0), le(100)])
    """``zone_aware``: percent of the requests for which it is done."""


@attrs.frozen(kw_only=True)
class BalancingConfig:
    """Which endpoints a balancer may choose from. Priorities, health and degradation are the endpoints' own."""

    overprovisioning_factor: int = field(default=140, validator=[ge(100), le(10_000)])
    """Percent: a priority takes all requests while this many times its healthy share is a whole; at 140 until fewer
    than 72 % of its endpoints are healthy. What it cannot take goes to the next one."""
    panic_threshold: int = field(default=50, validator=[ge(0), le(100)])
    """Percent: where fewer endpoints of a priority are fit, and all priorities together cannot take all requests, its
    share goes to all of them, fit or not. 0: never; where nobody is fit, requests are refused."""
    fail_traffic_on_panic: bool = False
    """Refuse requests in that case, in place of it."""
    locality: LocalityConfig | None = None
    """Where endpoints are counts. Not given: it does not."""
    subsets: SubsetsConfig | None = None
    """Parts by metadata. Not given: there are none."""


DEFAULT_BALANCING: Final = BalancingConfig()
"""What a cluster has that says nothing of it."""


@attrs.frozen(kw_only=True)
class BalancerConfig:
    """A load balancer with options of its own, beside its name. Written ``{name: …, option: …}``."""

    name: str
    options: Any  # Any: an instance of the balancer's own class of options
    """Every option of the balancer, given or not, compared by value."""


def balancer_name(balancer: str | BalancerConfig) -> str:
    """Return a balancer's name, however it is written."""
    return balancer if isinstance(balancer, str) else balancer.name


COOKIE_NAME: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}"
"""RFC 6265 §4.1.1: a token."""
COOKIE_PATH: Final = r"(/[\x21-\x3a\x3c-\x7e]{0,255})?"


@attrs.frozen(kw_only=True)
class CookieConfig:
    """A cookie. A plain string in the file is its name."""

    name: str = field(validator=matches_re(COOKIE_NAME))
    """Its name."""
    ttl: Duration | None = field(default=None, validator=optional(ge(Duration(0))))
    """A client that has none is given one for so long; 0: until it ends its session. Not given: it is not."""
    path: str = field(default="/", validator=matches_re(COOKIE_PATH))
    """Of the cookie that it is given; empty: that of the request."""


@attrs.frozen(kw_only=True)
class HashPolicyConfig:
    """What requests have in common that go to one endpoint, with balancers that hash. Exactly one key.

    Of several policies all that find something count together, in the order of the list.
    """

    header: str | None = None
    """The value of a header, or of an attachment of a call."""
    cookie: CookieConfig | None = None
    """The value of a cookie."""
    query: str | None = None
    """The value of a query parameter."""
    argument: str | None = None
    """A call's argument, where the codec knows the interface; ``user.id`` is a struct's field."""
    metadata: str | None = None
    """What a filter has written down under this name."""
    source: Literal[None, True] = None
    """The client's IP address."""
    path: Literal[None, True] = None
    """The request's path, without its query; of a call, its service and method."""
    terminal: bool = False
    """If there is a hash after it, the policies that follow are not asked."""

    def __attrs_post_init__(self) -> None:
        given = [key for key in HASHED if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(HASHED)} must be given")


HASHED: Final = ("header", "cookie", "query", "argument", "metadata", "source", "path")
"""What a hash policy may go by."""
MOST_POLICIES: Final = 16
"""Of one route."""
