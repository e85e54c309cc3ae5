"""The machine under the package: devices, memory allocator, thread pools, atomic files, the Hub client.

which device, does it have bf16                             devices
write a file so that a crash leaves the old one or the new  files
what malloc keeps, and giving it back                       malloc
one OpenMP thread pool at a time                            openmp
rows and files from the Hub                                 hub
"""
