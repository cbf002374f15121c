"""Other things asked of checkpoints: count, tensor, diff, verify, lint."""
