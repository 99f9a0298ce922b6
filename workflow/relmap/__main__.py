"""``python -m relmap`` is the command ``relmap``."""

from relmap.cli.main import main

if __name__ == "__main__":
    main(prog_name="relmap")
