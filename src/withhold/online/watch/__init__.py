"""A watched folder: each picture that arrives in the inbox is protected into the outbox, once, whatever happens."""
