"""One module a figure of the table: who is measured, under which load, against which goal."""
