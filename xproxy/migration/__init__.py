"""A new process takes the place of this one."""
