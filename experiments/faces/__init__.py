"""Experiments on faces: what recognisers learn from releases of pictures of people."""
