"""Who says which endpoints a cluster has."""
