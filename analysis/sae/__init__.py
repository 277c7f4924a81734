"""Sparse autoencoders: codes, checkpoints, encoding, training. Torch is imported inside the functions that need it."""
