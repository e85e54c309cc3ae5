"""How the bundled sample rows were written: ``python -m tools.samples.generate --out DIR``."""
