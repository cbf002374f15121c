"""Rules about which tensors there are (NAM)."""
