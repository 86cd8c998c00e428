"""The link over which streams in flight are served by one process while another one has their connection."""
