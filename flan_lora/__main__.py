"""``python -m flan_lora``: the command line, for ``accelerate launch -m flan_lora train ...`` and friends."""

from flan_lora.cli import main

main(prog_name="flan-lora")
