"""What the user wrote: YAML → attrs, with every mistake found at once."""
