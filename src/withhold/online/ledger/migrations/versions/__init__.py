"""In the order of their revisions; see `withhold.online.ledger.migrating`."""
