"""Torch tensors as matrices, and traces that can be back-propagated."""
