"""Rules about the files that make a checkpoint (FIL)."""
