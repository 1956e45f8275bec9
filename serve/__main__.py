"""`python -m serve` is the command `strata`."""

from serve.cli.main import main

main()
