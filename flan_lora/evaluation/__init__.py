"""Answers to scores with intervals.

answers of a model to examples                      predict
answer and score a split                            evaluate
answers on disk                                     predictions
temperature and reliability of label probabilities  calibration
is the difference chance                            significance
"""
