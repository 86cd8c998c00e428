"""The process that holds the pid and the listening sockets. Imports the standard library only, and little of it."""
