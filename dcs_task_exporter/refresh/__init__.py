"""Which instance is read when, and the snapshots that come of it."""
