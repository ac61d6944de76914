"""The command line: it translates and delegates."""
