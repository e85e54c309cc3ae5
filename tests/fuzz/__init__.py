"""Inputs that nobody would write, against everything that reads a file: an answer, or one error with its place.

``FLAN_LORA_FUZZ=20000 pytest tests/fuzz`` tries that many examples each, at random; by default it is a few dozen,
the same ones every time. What a long run found stands as a case in the test of the module that was mended.
"""
