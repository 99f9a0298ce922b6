"""Code of the paper on UCAG: its figures."""
