"""The steps that bring a ledger's database to this version's tables, one file each, never changed once published."""
