"""`python -m lifecycle`, the same as the command `lifecycle`."""

from lifecycle.cli import main

main()
