"""Where content work runs."""
