"""Base against tuned on the same rows: answers, tests, pictures, one page.

ask every predictor             answers
a whole comparison              run
who is better, and by how much  comparison
results on disk                 results
rows of another domain          out_of_domain
pictures                        plots
the page                        html
all files of a report           report
"""
