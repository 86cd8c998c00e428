"""The protocol xs1, as a plugin for xproxy."""
