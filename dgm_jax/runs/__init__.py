"""A run on the disk: its folder, checkpoints, lines and what is read from them."""
