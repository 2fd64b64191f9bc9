"""`python -m asr` is `asr`."""

from asr.cli.main import main

main()
