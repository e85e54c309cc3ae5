"""``python -m tools.mini``: make the embedded base again."""

from tools.mini.build import main

main()
