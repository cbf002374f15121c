"""config.json of each family that has a model of its own: one file each."""
