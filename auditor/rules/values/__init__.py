"""Rules about what tensors hold, by bytes (VAL)."""
