"""Rules about MTP modules (MTP)."""
