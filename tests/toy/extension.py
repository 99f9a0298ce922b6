"""A method of one's own, to be set beside those of any paper: its row."""

from relmap.catalogue.methods import Method

METHODS = [Method("occlusion", "Occlusion", "Zeiler and Fergus 2014", "occlusion.py:Occlusion", {"patch": 16})]
