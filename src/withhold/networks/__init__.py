"""Architectures, the training recipe and weights on disk; used for surrogates and for the networks they stand for."""
