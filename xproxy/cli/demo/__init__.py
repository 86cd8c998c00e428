"""``xproxy demo``: upstreams of every protocol, the proxy, real requests through one port."""
