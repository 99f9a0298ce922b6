"""CLAM: attributes of classes, learnt layer by layer, that refine relevance on its way to the input."""
