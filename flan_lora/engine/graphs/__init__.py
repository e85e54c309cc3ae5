"""Passes of fixed shapes over tensors that stay where they are, each captured once as a CUDA graph and replayed.

what is captured, and kept for its shape to come again  cuda_graph
sources -> keys and values of the cross attention       prefill_graph
one token of every slot, and who has which slot         decode_graph
"""
