"""The machine under the package: devices, memory allocator, thread pools, files and documents, the Hub client.

which device, does it have bf16                             devices
write a file so that a crash leaves the old one or the new  files
read a file that may be a pipe, a device or too large       files
packed files, and other programs' files by their first bytes  file_signatures
one process at a time for a file or folder                  lock
call whoever asked to hear of something                     listeners
YAML and JSON of anybody -> plain values                    documents
a schema whose mistakes become one line each                schema
where a file lies that can be made again                    cache_dir
C compiled on the machine that runs it                      compiled
what malloc keeps, and giving it back                       malloc
one OpenMP thread pool at a time                            openmp
a command that answers once: what its start can go without   quick_start
rows and files from the Hub                                 hub
a Ray cluster to run on                                     ray_cluster
words of messages: the name that was meant, a text cut      text
"""
