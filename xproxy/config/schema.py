"""What a user may write: one attrs class a mapping of the YAML file, fields named as the keys.

Frozen and compared by value: two equal clusters are one cluster across a reload. Field docstrings become the
configuration reference. ``load.py`` reads text into these; nothing here touches a file.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs
from attrs import field, validators
from attrs.validators import ge, gt, le, max_len, min_len, optional

from xproxy.config.balancing import (
    DEFAULT_BALANCING,
    MOST_POLICIES,
    BalancerConfig,
    BalancingConfig,
    HashPolicyConfig,
)
from xproxy.config.breakers import CircuitBreakersConfig
from xproxy.config.discovery import DiscoveryConfig
from xproxy.config.fields import Unless
from xproxy.config.health import HealthCheckConfig, OutlierDetectionConfig
from xproxy.config.routing import FractionConfig, MirrorConfig, RangeConfig, RewriteConfig
from xproxy.config.tls import ClusterTlsConfig, ListenerTlsConfig
from xproxy.model.address import Address
from xproxy.model.limits import KIB, MIB, Duration, Size
from xproxy.model.secrets import DEFAULT_SECRETS, SecretNames
from xproxy.supervisor.table import MOST_WORKERS


def _seconds(value: float) -> Any:  # Any: what attrs.field returns is the field's own type to mypy
    return field(default=value, validator=ge(0))


def _size(value: int, least: int = 0) -> Any:  # Any: as above
    return field(default=value, validator=ge(least))


@attrs.frozen(kw_only=True)
class FilterConfig:
    """A filter by name, with its own fields beside the name. Written ``name`` or ``{name: …, field: …}``."""

    name: str
    options: Any = attrs.field(factory=dict)  # Any: checked by the filter's own class
    """The filter's own fields, as an instance of its class once loaded."""


@attrs.frozen(kw_only=True)
class CodecConfig:
    """A codec with options of its own, beside its name. Written ``{name: …, option: …}``."""

    name: str
    options: Any  # Any: checked by the codec's own class
    """Every option of the codec, given or not, compared by value: see ``config.codecs``."""


def codec_name(codec: str | CodecConfig) -> str:
    """Return a codec's name, however it is written."""
    return codec if isinstance(codec, str) else codec.name


@attrs.frozen(kw_only=True)
class AdminConfig:
    """The admin interface: metrics, configuration and cluster state, for browsers and scrapers."""

    address: Address = Address("127.0.0.1", 9901)
    """Where it listens. It has no access control: keep it on loopback or a Unix socket."""
    hosts: tuple[str, ...] = ()
    """Names that requests may call it by, besides ``localhost``, loopback addresses and the address that was called.
    Any other ``Host`` is refused: a page in somebody's browser may have had its own name resolved to this address."""


@attrs.frozen(kw_only=True)
class FallbackConfig:
    """Where bytes go that no codec recognises."""

    cluster: str
    """Name of a cluster; the connection is relayed to it as raw TCP."""


@attrs.frozen(kw_only=True)
class ServerFirstConfig:
    """Protocols whose server speaks first (SMTP, MySQL, …): a client that stays silent is relayed as L4."""

    wait: Duration = field(default=Duration(0.2), validator=gt(Duration(0)))
    """How long a client may be silent before it counts as one that listens."""
    known_wait: Duration = field(default=Duration(0.01), validator=ge(Duration(0)))
    """The same where a silent client was seen before: enough for one that speaks at once. 0: no wait at all."""
    cluster: str | None = None
    """Where silent clients go; default: the cluster of the listener's ``fallback``."""
    remember: Duration = field(default=Duration(600.0), validator=ge(Duration(0)))
    """How long a destination (the address called) is known to have silent clients, from the last one on."""
    max_remembered: int = field(default=1024, validator=ge(1))
    """Destinations remembered; above it the oldest is forgotten."""


@attrs.frozen(kw_only=True)
class ProxyProtocolConfig:
    """PROXY protocol (v1 and v2) on a listener: then every connection must begin with its header."""

    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks (CIDR) whose header is believed; a connection from elsewhere is closed. Unix peers always may."""


@attrs.frozen(kw_only=True)
class TimeoutsConfig:
    """How long a connection may keep us waiting. Durations; 0 switches one off."""

    detect: Duration = _seconds(10.0)
    """From accept until the protocol is known, the PROXY header included."""
    detect_silence: Duration = _seconds(0.2)
    """With a ``fallback``: how long a client may be silent after first bytes that may be anybody's."""
    idle: Duration = _seconds(3600.0)
    """Connection open, no stream in flight."""
    head: Duration = _seconds(10.0)
    """From the first byte of a request until its head is complete."""
    body: Duration = _seconds(60.0)
    """Between two pieces of a request body."""
    write: Duration = _seconds(60.0)
    """The client takes none of the bytes we have for it."""
    stream_idle: Duration = _seconds(300.0)
    """Nothing moves on a stream in either direction."""
    drain: Duration = _seconds(30.0)
    """From the wish to stop until what is still in flight is cut off."""
    linger: Duration = _seconds(1.0)
    """Whoever was told the last thing is read until silent for so long: a reset would destroy what it was told."""


@attrs.frozen(kw_only=True)
class LimitsConfig:
    """How much one connection may hold. Sizes."""

    max_head_bytes: Size = _size(64 * KIB, 256)
    """Start line and header fields of a request together."""
    max_headers: int = field(default=100, validator=ge(1))
    """Header fields in one head."""
    max_target_bytes: Size = _size(8 * KIB, 16)
    """The request target of a web request."""
    max_message_bytes: Size = _size(16 * MIB, 64)
    """A whole RPC message."""
    max_detect_bytes: Size = _size(4 * KIB, 32)
    """Bytes looked at before a connection counts as unrecognised."""
    max_streams: int = field(default=1024, validator=ge(1))
    """Streams in flight on one connection."""
    max_outbox_bytes: Size = _size(1 * MIB, 1)
    """Bytes waiting for one connection's socket before its streams must wait."""
    max_connection_bytes: Size = _size(64 * MIB, 64 * KIB)
    """Bytes of messages that one connection holds, counted as in ``overload.max_held_bytes``; above it it is not
    read."""
    max_connections: int = field(default=65536, validator=ge(1))
    """Connections of one listener; above it new ones are closed at once."""


@attrs.frozen(kw_only=True)
class ListenerConfig:
    """A port, the codecs recognised on it, and where its requests go."""

    name: str = field(validator=min_len(1))
    """Shown in logs and statistics; no two listeners share one. A listener keeps its identity by it in a reload."""
    address: Address
    """``127.0.0.1:15001``, ``[::]:15001`` or ``unix:/run/xproxy.sock``."""
    codecs: Literal["auto"] | tuple[str | CodecConfig, ...] = "auto"
    """``auto``: every installed codec, by rank; or names, in order, or ``{name: …}`` with options; in such a list
    ``auto`` stands for all that it does not name. ``opaque`` alone makes an L4 listener."""
    fallback: Literal["close"] | FallbackConfig = "close"
    """What happens to a connection that no codec recognises."""
    filters: tuple[FilterConfig, ...] = ()
    """Round every request of this listener, the first one outermost."""
    routes: str | None = None
    """Name of a route table. May be left out only where ``fallback`` leads to a cluster, for all connections."""
    normalize_path: bool = True
    """Remove dot segments (``/x/../admin``), needless escapes (``/%61dmin``) and backslashes from the paths of web
    requests, before filters and routes see them and for what is sent on (RFC 3986 §6.2.2). The query stays."""
    merge_slashes: Literal["match", True, False] = "match"
    """Repeated slashes in paths are one: ``match``: for routes only; ``true``: and for what is sent on."""
    path_with_escaped_slashes_action: Literal[
        "keep_unchanged", "reject_request", "unescape_and_redirect", "unescape_and_forward"
    ] = "keep_unchanged"
    """What is done about ``%2F`` and ``%5C`` in paths: left; refused; made slashes, and the client sent there (307);
    or made slashes, and sent on. Before the other two."""
    proxy_protocol: Literal[False] | ProxyProtocolConfig = False
    """Expect the PROXY protocol. ``true`` stands for the defaults."""
    tls: ListenerTlsConfig | None = None
    """No TLS is ended or looked at unless given."""
    server_first: ServerFirstConfig | None = None
    """Let clients be silent at first, whose server speaks first. ``true`` stands for the defaults."""
    timeouts: TimeoutsConfig = TimeoutsConfig()
    """How long a connection may keep us waiting."""
    limits: LimitsConfig = LimitsConfig()
    """How much a connection may hold."""
    transparent: bool = False
    """Take connections that the kernel has redirected on their way (iptables, REDIRECT or TPROXY): the address that
    was called is the one the client meant. TPROXY needs CAP_NET_ADMIN."""
    reuse_port: bool = False
    """Open with SO_REUSEPORT, so that several processes can share the port."""
    backlog: int = field(default=1024, validator=[ge(1), le(65535)])
    """Connections the kernel keeps until they are accepted."""


@attrs.frozen(kw_only=True)
class StringMatch:
    """A test of one text. Exactly one key; a plain string in the file means ``exact``."""

    exact: str | None = None
    """The whole text, case and all."""
    prefix: str | None = None
    """How it begins."""
    suffix: str | None = None
    """How it ends."""
    contains: str | None = None
    """What occurs in it."""
    regex: str | None = None
    """Must match the whole text (Python ``re``). One that can take long on some texts needs ``xproxy[re2]``."""
    range: RangeConfig | None = None
    """A whole number in a range."""
    present: bool | None = None
    """Only whether there is one."""
    invert: bool = False
    """Turn the result round; an absent text still does not match, except with ``present: false``."""
    treat_missing_as_empty: bool = False
    """An absent text is an empty one. Not for ``present``."""


@attrs.frozen(kw_only=True)
class PathMatch:
    """A test of the request path without its query. Exactly one key; a plain string means ``exact``."""

    exact: str | None = None
    """The whole path."""
    prefix: str | None = None
    """Plain string prefix."""
    segment_prefix: str | None = None
    """Whole path segments: ``/api`` matches ``/api`` and ``/api/x``, not ``/apix``."""
    regex: str | None = None
    """Must match the whole path; as in texts."""


@attrs.frozen(kw_only=True)
class MatchConfig:
    """The tests of a route; all given ones must hold. None given: everything matches."""

    path: PathMatch | None = None
    """The request path; protocols without paths never match."""
    method: tuple[str, ...] | None = None
    """Methods of web requests, or of RPCs; a single string will do."""
    headers: dict[str, StringMatch] | None = None
    """By field name; several fields of one name are joined with commas."""
    cookies: dict[str, StringMatch] | None = None
    """By name; the first cookie of a repeated name counts."""
    query: dict[str, StringMatch] | None = None
    """By parameter name; the first value of a repeated one counts."""
    arguments: dict[str, StringMatch] | None = None
    """By the name of a call's argument, where the codec knows the interface; ``user.id`` is a struct's field."""
    protocol: tuple[str, ...] | None = None
    """Codec names, or dialects of calls in a codec's requests (see ``xproxy codecs``); a single string will do."""
    service: StringMatch | None = None
    """RPC service, or the authority of a web request."""
    tls: bool | None = None
    """Whether the connection's TLS is ended here."""
    sni: StringMatch | None = None
    """TLS server name the client asked for, in lower case."""
    alpn: tuple[str, ...] | None = None
    """ALPN protocols: the one agreed on, or where TLS is passed through, the client's first choice."""
    peer_identity: StringMatch | None = None
    """Who the client is, by its verified certificate: its URI or other subject alternative name, or its subject."""
    source: tuple[str, ...] | None = None
    """Client networks (CIDR)."""
    port: int | None = field(default=None, validator=optional([ge(1), le(65535)]))
    """The port the client connected to."""
    fraction: FractionConfig | None = None
    """A share of the requests. One value is drawn for each request, for all routes of the table."""


@attrs.frozen(kw_only=True)
class RouteConfig:
    """Which requests go to which cluster. Routes are tried in order; the first match wins."""

    name: str = ""
    """Shown in logs and explanations; default: ``<table>[<index>]``."""
    hosts: tuple[str, ...] = ()
    """``reviews:9080``, ``*.reviews.local`` (suffix), ``reviews.*`` (prefix), ``*``. Empty: every host.
    A pattern without port matches every port; case does not matter."""
    match: MatchConfig = MatchConfig()
    """What a request must look like. Nothing given: every request of these hosts."""
    cluster: str | dict[str, int] | None = None
    """A cluster, or clusters with integer weights: chosen anew for each request in proportion; weight 0 never.
    May be left out only where a filter of the route answers by itself (direct_response, redirect)."""
    timeout: Duration | None = field(default=None, validator=optional(ge(Duration(0))))
    """From the end of the request to the end of the response, retries included. 0: none (streaming, L4). Not given:
    15 s, but none for a request whose client says how long it waits, nor for a call within a web request, which
    may stream. What a client says holds in any case; a time that is given here bounds it."""
    filters: tuple[FilterConfig, ...] = ()
    """Inside the listener's filters."""
    cluster_header: str | None = None
    """In place of ``cluster``: the header, or attachment of a call, that names it. Clients may then ask any cluster:
    have a filter of the listener write it, or a proxy in front."""
    weight_header: str | None = None
    """With weights: the header whose number, modulo their total, chooses. Without a number in it, chance does."""
    fallback_cluster: str | None = None
    """Who is asked where the cluster has no endpoint that may be asked."""
    rewrite: RewriteConfig | None = None
    """Change path or host; mirrors get what was changed."""
    mirrors: tuple[MirrorConfig, ...] = field(default=(), validator=max_len(8))
    """Copy requests to other clusters, as the route found them. L4, CONNECT and upgrades are not copied."""
    priority: Literal["default", "high"] = "default"
    """``high``: where requests wait for a connection, these go first, and the bounds of that priority in
    ``circuit_breakers.thresholds`` are theirs."""
    hash_policy: tuple[HashPolicyConfig, ...] = field(default=(), validator=max_len(MOST_POLICIES))
    """What requests have in common that go to one endpoint, with ``load_balancer`` ring_hash or maglev. It is asked
    before the route's own filters."""
    metadata_match: dict[str, str] = field(factory=dict)
    """Which part of its cluster a request goes to, where that has ``subsets``."""
    allow_connect: bool = False
    """Let CONNECT requests pass; they are refused otherwise."""
    allow_upgrade: tuple[str, ...] = ()
    """Protocols that a connection, or a stream, may become, e.g. ``websocket`` (RFC 9110 §7.8). The wish for another
    one is passed over: the request is served as an ordinary one, or refused where it is nothing else."""


@attrs.frozen(kw_only=True)
class EndpointConfig:
    """One address of a cluster. A plain string in the file is the address."""

    address: Address
    """``10.0.0.1:80``, ``[::1]:80``, ``name:80`` or ``unix:/path``."""
    weight: int = field(default=1, validator=[ge(1), le(1_000_000)])
    """Its share of the requests, against the weights of the others."""
    metadata: dict[str, str] = field(factory=dict)
    """Free texts about it."""
    priority: int = field(default=0, validator=[ge(0), le(127)])
    """0 is asked first, a higher one as those before it are not fit."""
    region: str = ""
    """Where it runs …"""
    zone: str = ""
    """… in that region …"""
    sub_zone: str = ""
    """… and in that zone."""
    hostname: str = ""
    """Its name, for rewritten authorities and health checks."""
    health_check_port: int = field(default=0, validator=[ge(0), le(65535)])
    """Where health checks go. 0: where requests go."""
    dial: Address | None = None
    """Where its connections are opened, if that is not where it is known by."""
    health: Literal["healthy", "degraded", "unhealthy"] = "healthy"
    """What whoever names it knows of it. An unhealthy one is asked only in a panic (``balancing``)."""


@attrs.frozen(kw_only=True)
class KeepaliveConfig:
    """Heartbeats on quiet upstream connections, where the codec has them."""

    interval: Duration = _seconds(15.0)
    """Nothing read for so long: ask."""
    timeout: Duration = _seconds(1.0)
    """No byte within it counts as a miss."""
    max_misses: int = field(default=3, validator=ge(1))
    """So many misses in a row and the connection is closed."""


@attrs.frozen(kw_only=True)
class UpstreamLimitsConfig:
    """How much one upstream connection may hold. Sizes."""

    max_head_bytes: Size = _size(64 * KIB, 256)
    """Start line and header fields of a response together."""
    max_headers: int = field(default=100, validator=ge(1))
    """Header fields in one head."""
    max_message_bytes: Size = _size(16 * MIB, 64)
    """A whole RPC message."""


@attrs.frozen(kw_only=True)
class ClusterConfig:
    """Endpoints that serve the same thing, and how requests are spread over them."""

    endpoints: tuple[EndpointConfig, ...] = ()
    """Where it is served: at least one, unless ``type`` finds them."""
    type: Literal["static"] | DiscoveryConfig = "static"
    """Who says which endpoints there are: ``static``: this file alone. ``dns``: the names in ``endpoints`` are
    looked up, again and again. ``file``: another file, as it changes. ``original_destination``: the connection, where
    it was intercepted on its way. Or an installed one. By name, or ``{name: …}`` with options."""
    codec: str | CodecConfig = "auto"
    """``auto``: gRPC in HTTP/2, other web requests in HTTP/1.1 (with ``tls`` and a client of HTTP/2: as with
    ``alpn``), and every other protocol as it came. ``same``: as downstream, in any case. Or a codec, by name or
    ``{name: …}`` with options: requests are converted. ``alpn``, with ``tls``: what each endpoint chooses in TLS,
    among the codecs of the downstream's family."""
    load_balancer: str | BalancerConfig = "round_robin"
    """An installed balancer, by name or ``{name: …}`` with options."""
    balancing: BalancingConfig = DEFAULT_BALANCING
    """Which endpoints it may choose from."""
    connect_timeout: Duration = field(default=Duration(5.0), validator=gt(Duration(0)))
    """Until a new connection is open."""
    idle_timeout: Duration = _seconds(60.0)
    """An unused upstream connection is closed after it."""
    circuit_breakers: CircuitBreakersConfig = CircuitBreakersConfig()
    """What is too much."""
    connections: Literal[None, "shared", "bound"] = None
    """Not given: ``shared``, but ``bound`` where a codec says that its connections have a state (``stateful``).
    ``bound``: each downstream connection has its own upstream connection, over which the server may also call the
    client. L4 and clusters with proxy_protocol are always bound."""
    connections_per_endpoint: int = field(default=1, validator=[ge(1), le(1024)])
    """For protocols that share a connection among streams: how many of them."""
    tls: ClusterTlsConfig | None = None
    """Speak TLS to the endpoints. ``true`` stands for the defaults."""
    proxy_protocol: Literal[None, "v1", "v2"] = None
    """Send a PROXY header first on each upstream connection, before TLS."""
    keepalive: KeepaliveConfig = KeepaliveConfig()
    """Heartbeats on quiet connections."""
    failure_threshold: int = field(default=5, validator=ge(1))
    """So many connect failures or resets in a row mark an endpoint as failing …"""
    failure_time: Duration = _seconds(10.0)
    """… and for so long it is chosen only if no other endpoint is left."""
    outlier_detection: OutlierDetectionConfig | None = None
    """Eject endpoints for what they answer. ``true`` stands for the defaults."""
    health_checks: tuple[HealthCheckConfig, ...] = field(default=(), validator=max_len(8))
    """Ask endpoints whether they are fit; all of these must say so."""
    close_connections_on_host_health_failure: bool = False
    """The connections of an endpoint that becomes unfit are cut, and what is in flight on them fails. Otherwise they
    are closed when it has ended."""
    ignore_health_on_host_removal: bool = False
    """An endpoint that discovery does not name any more is removed at once. Otherwise it stays, where there are
    ``health_checks``, as long as it passes them: discovery may err."""
    limits: UpstreamLimitsConfig = UpstreamLimitsConfig()
    """How much a connection to an endpoint may hold."""
    max_requests_per_connection: int = field(default=0, validator=ge(0))
    """A connection that has carried so many is not used again. 0: no bound."""


@attrs.frozen(kw_only=True)
class OverloadConfig:
    """What the whole process keeps back, so that it can go on when there is too much of everything."""

    max_held_bytes: Size = _size(0)
    """Bytes of messages that all connections together hold: whole ones until their stream ends, unfinished ones,
    pieces and answers that wait for whoever is to take them. Near it, connections that hold much are not read; above
    it, who holds most is answered with overload. 0: 40 % of the memory that the process may have (of its control
    group, or of the machine)."""
    reserved_descriptors: int = field(default=0, validator=ge(0))
    """File descriptors that clients' connections never take: for connections to endpoints, the admin and files.
    When only these are left, idle connections are closed, and new ones if there is none. 0: a quarter of all."""


@attrs.frozen(kw_only=True)
class TakeoverConfig:
    """How a new process takes the place of this one (`xproxy upgrade`)."""

    generations: int = field(default=4, validator=[ge(1), le(64)])
    """Former ones that may still serve something; with so many a further upgrade is refused."""
    patience: Duration = _seconds(900.0)
    """A former one ends so long after it was followed, whatever it still serves. 0: it waits for ever."""
    canary: Duration = _seconds(1.0)
    """The new one must serve the first connections for so long before the others follow. 0: they do at once."""


@attrs.frozen(kw_only=True)
class Config:
    """A whole configuration file."""

    listeners: tuple[ListenerConfig, ...] = field(validator=min_len(1))
    """The ports to serve."""
    routes: dict[str, tuple[RouteConfig, ...]] = field(factory=dict)
    """Route tables by name."""
    clusters: dict[str, ClusterConfig] = field(factory=dict)
    """Groups of endpoints by name."""
    admin: AdminConfig | None = None
    """No admin interface unless given."""
    overload: OverloadConfig = OverloadConfig()
    """What the process keeps back."""
    redaction: SecretNames = DEFAULT_SECRETS
    """What is hidden where this configuration is shown. Access logs have a ``redaction`` of their own."""
    workers: Literal["auto"] | int = field(
        default=1, validator=Unless("auto", validators.and_(ge(1), le(MOST_WORKERS)))
    )
    """Processes that share the ports, and all work. ``auto``: one for each core that there is. Read at the start."""
    takeover: TakeoverConfig = TakeoverConfig()
    """How a new process takes the place of this one."""
    checked_with: object = field(default=None, init=False, eq=False, repr=False)
    """The registry with which this very value was found to be right; None: it has not been checked. No key."""
