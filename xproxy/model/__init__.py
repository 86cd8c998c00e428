"""Values: what every floor speaks of. No I/O, no clock, no logging."""
