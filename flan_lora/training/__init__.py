"""Recipe to published adapter.

the main job in one function                      factory
the Hugging Face Trainer, with the loss T5 needs  trainer
LoRA layers of a recipe                           lora
run folder, resume                                run_dir
what it will cost                                 estimate
what this machine can do                          doctor
what a run writes into the manifest               record
logging, interruption                             callbacks
batches of near-equal length                      sampler
TensorBoard, W&B, MLflow                          trackers
"""
