"""What draws AE's figures; the notebooks in notebooks/ae call it."""
