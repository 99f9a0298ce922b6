"""Code of the paper on Attribution Equilibrium: its grids of images, its own examples, its figures."""
