"""The command `slq`."""
