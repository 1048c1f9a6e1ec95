"""Data on disk: the undo journal with its lock and upkeep, and the ledger."""
