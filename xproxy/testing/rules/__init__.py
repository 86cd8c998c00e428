"""What ``check_codec`` asks of a codec, one topic a file."""
