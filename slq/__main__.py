"""`python -m slq` is the command `slq`."""

from slq._command._cli import main

main()
