"""Code of the paper on absLRP and Global Attribution Evaluation: its own examples and its figures."""
