"""What a checkpoint says of itself, with nothing expected of it: patterns, formats, symmetry, declarations."""
