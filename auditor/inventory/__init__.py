"""A checkpoint's index and headers, read through a source into facts."""
