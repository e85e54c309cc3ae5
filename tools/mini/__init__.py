"""How the embedded base `mini` was made, and how to make it again: ``python -m tools.mini --help``."""
