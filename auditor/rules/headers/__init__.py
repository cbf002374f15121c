"""Rules about headers and where tensors lie (HDR)."""
