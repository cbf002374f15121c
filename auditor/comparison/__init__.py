"""What tensors are held against what the config implies: joined, paired, counted, solved; every fact of a rule."""
