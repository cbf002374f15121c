"""The API under /v1, a file for each thing that can be asked about."""
