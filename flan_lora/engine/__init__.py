"""Token ids to token ids: one running batch, a KV cache, many LoRAs at once. No text.

requests of all threads join and leave one batch  scheduler
what is asked, what is answered                   request
one step of the batch                             runner
rows decoded together: greedy, sampling, beams    decode_group
T5 over frozen weights                            t5
products with float weights                       linear
adapters in memory, leased and evicted            adapter_cache
their slots                                       memory_pool
the LoRA update of each row                       lora_batch
the same on a GPU, in Triton                      bgmv
passes of fixed shapes, captured on a GPU         graphs/
"""
