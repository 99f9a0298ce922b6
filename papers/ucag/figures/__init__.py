"""What draws UCAG's figures; the notebooks in notebooks/ucag call it."""
