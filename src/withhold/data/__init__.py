"""Labelled image datasets in and out, and the pixels in them."""
