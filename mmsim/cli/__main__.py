"""``python -m mmsim.cli``: the same as ``mmsim``."""

from mmsim.cli.main import main

main()
