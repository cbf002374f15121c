"""Rules about sums and published figures (CNT)."""
