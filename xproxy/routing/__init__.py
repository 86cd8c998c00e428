"""Which handler: routes, tables of them, and the router."""
