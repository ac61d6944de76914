"""A whole dataset: plan, craft, write, manifest, verify, show."""
