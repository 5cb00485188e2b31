"""`python -m slq` is the command `slq`."""

from slq._cli import main

main()
