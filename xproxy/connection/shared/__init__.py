"""Many streams on one connection: messages matched by id, or bodies in pieces."""
