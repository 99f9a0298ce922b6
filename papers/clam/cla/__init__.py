"""CLA-layers: the class-wise layer-wise attributes of CLAM."""
