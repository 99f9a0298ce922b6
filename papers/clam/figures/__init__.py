"""What draws CLAM's figures; the notebooks in notebooks/clam call it."""
