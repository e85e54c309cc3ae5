"""Recipe to published adapter.

the main job in one function                      factory
the Hugging Face Trainer, with the loss T5 needs  trainer
what the Trainer is told                          arguments
what can be refused before the first step         checks
the learning rate of each step                    schedule
LoRA layers of a recipe                           lora
run folder, resume                                run_dir
what it will cost                                 estimate
which dials fit a GPU of some size                cards
what this machine can do                          doctor
how fast it trains, measured                      speed
several processes                                 distributed
adapter, base and baselines on test               evaluations
a published adapter scored again                  reevaluate
what a run writes into the manifest               record
logging, interruption, TensorBoard, W&B, MLflow   callbacks
batches of near-equal length                      sampler
which values of its fields score best             sweep/
"""
