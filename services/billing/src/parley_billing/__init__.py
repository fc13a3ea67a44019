"""Credits: a double-entry ledger with two-phase holds."""
