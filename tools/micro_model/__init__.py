"""How the shipped micro model is made: data generator, tokenizer, trainer, GGUF export and evaluation.

`python -m tools.micro_model build` does all of it from a seed; see `__main__.py` for the single steps.
"""
