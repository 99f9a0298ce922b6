"""Code of the paper on CLAM: its ablations, the evaluation of attributes, its figures."""
