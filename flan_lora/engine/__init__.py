"""Token ids to token ids: one running batch, a KV cache, many LoRAs at once. No text.

submit, score labels, encode, close: the worker     engine
a handle: result, tokens, cancel                    generation
how one answer is generated                         generation_params
what is asked, what is answered                     request
who is let in next, limits                          scheduler
one step of all that run                            batch, decode_group
greedy and sampling; beams; penalties and labels    sampling, beam_search, logits_process
kernel by kernel, or by CUDA graphs                 model_runner, runner, graphs/
T5 over frozen weights, its linears, its cache      t5, linear, kv_cache
their int8 products on x86, in C                    int8_kernel, int8_product.c
adapters in memory, their slots                     adapter_cache, lease, tiers, memory_pool
the LoRA update of each row; on a GPU               lora_batch, bgmv
"""
