"""What the functions of `slq.plot` draw with."""
