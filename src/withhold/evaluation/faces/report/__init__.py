"""The report of an evaluation of faces: a page, and the same numbers as JSON and CSV."""
