"""The command line: parsing and printing, one command a file."""
