"""Engines: ways to work off the batches of a plan, all of which give the same bytes."""
