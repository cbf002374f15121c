"""Rules about config.json (CFG)."""
