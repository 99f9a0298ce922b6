"""C3-LRP's own: what ties decide, how often its masks differ, what its propagation is, and its figures."""
