"""What a checkpoint says about itself, with nothing expected of it: patterns of names, formats, symmetry, declarations."""
