"""A new task from adapters that are there: weights of a mix, found on a few rows without gradients (LoraHub).

the main job in one function                          compose
which rows are searched on, and which are held out    rows
weights without gradients                             search
the loss and the answers of a mix                     mix_model
a fresh LoRA on the same few rows                     few_shot
a mix as one adapter: SVD of the summed update        merged
beside the best single adapter, the base, few-shot    candidates
the merged adapter in an adapter folder               publish

Source: LoraHub, arXiv:2307.13269.
"""
