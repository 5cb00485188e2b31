"""The user's model and data: which parameters and batches there are, and all left as it was found."""
