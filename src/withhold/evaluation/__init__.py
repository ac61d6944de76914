"""The competitor: networks trained on what was released, in every way known to help, and tested on clean images."""
