"""The command line. A command imports what it needs when it runs, so that ``relmap --help`` is there at once."""
