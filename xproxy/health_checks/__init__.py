"""The kinds of health checks that come with xproxy, each as a plugin might bring it."""
