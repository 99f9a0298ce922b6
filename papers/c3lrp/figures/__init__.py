"""C3-LRP's figures."""
