"""`python -m llama_stack` is the `llama` command."""

from llama_stack.cli.main import main

if __name__ == "__main__":
    main(prog_name="python -m llama_stack")
