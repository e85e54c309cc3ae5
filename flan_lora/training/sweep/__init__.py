"""Many trainings of one recipe that differ in a few fields: which values score best on validation.

which fields, which values, every trial's recipe  dials
the folder: what was asked, Optuna's journal      study
one trial: train, report, stop early              worker
the whole sweep, here in turn                     run
the same on the machines of a Ray cluster         ray_workers
table, JSON, CSV, picture, the best as a recipe   results
"""
