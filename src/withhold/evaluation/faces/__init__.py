"""Faces: what recognisers that were trained on a release can do, measured as face recognition is measured."""
