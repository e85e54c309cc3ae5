"""A published adapter: what it is, its folder, its weights, its card; merged, exported, uploaded.

what an adapter says of itself            manifest
is this folder sound; the opened adapter  validation
adapter_config.json, its target modules   lora_config, module_pattern
can it be served beside others            servable
publish, open, list, verify, remove       store
adapter roots at s3://, gs://, hf://      remote_store, remote_folder
the stores of several bases, by name      stores
the LoRA tensors, checked against a base  weights
onto its base as a PeftModel              peft_loader
model card                                card, front_matter
pictures, training curve                  figures
scores and losses by step                 training_log
energy and CO2 estimate                   emissions
folded into its base                      merge
for CTranslate2                           ctranslate2
to the Hub                                upload
"""
