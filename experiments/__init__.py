"""The experiments behind every published number: one TOML file each, its results beside it."""
