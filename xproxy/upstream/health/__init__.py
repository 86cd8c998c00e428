"""Which endpoints are fit: by what they answer to requests (outlier detection), and to health checks."""
