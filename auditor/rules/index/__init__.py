"""Rules about the index (IDX)."""
