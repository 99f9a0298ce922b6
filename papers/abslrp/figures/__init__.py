"""What draws absLRP's figures; the notebooks in notebooks/abslrp call it."""
