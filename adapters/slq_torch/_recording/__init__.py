"""The recorder of a training, and what it is called by and tells."""
