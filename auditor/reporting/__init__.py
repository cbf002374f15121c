"""Facts and findings into a report, its formats by name, a saved one read back, a site of them."""
