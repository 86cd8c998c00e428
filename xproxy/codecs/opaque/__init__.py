"""L4 as a codec: one stream, no head, bytes as they come."""
