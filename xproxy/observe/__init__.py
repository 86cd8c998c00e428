"""What can be seen from outside: counters, access logs."""
