"""Texts to answers.

texts to adapters to answers, any number of threads  router
a file of requests to a file of answers              batch_file
which adapter a text belongs to                      routing_profile
how often "auto" is right                            routing_report
"""
