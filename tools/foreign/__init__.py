"""How the adapters do on rows that neither they nor the base ever read: ``python -m tools.foreign``.

packages.py   files inside published source packages, checked by sha256
sets.py       the sets: what each is, its licence, its rows as examples of a task
pairs.py      sentence pairs that mean the same, or nearly do, made of other people's rewrites
spoilt.py     test rows with spellings that no training applies
measure.py    adapter, bare base and trivial baselines on a set, through the router and the tasks' own scorers

Only figures go into the repository (docs/foreign/), never a row.
"""
