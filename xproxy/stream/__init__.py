"""One request: the types that filters see."""
