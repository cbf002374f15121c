"""Rules about FP8 weights and their scales, by headers (QNT)."""
