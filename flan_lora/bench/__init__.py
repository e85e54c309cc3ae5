"""What the router costs, beside PEFT and CTranslate2: same weights, same prompts, in one run, taking turns."""
