"""relmap: relevance maps of image classifiers, and the evidence about them."""
