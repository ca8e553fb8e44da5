"""The `llama` command: parsing and printing; the work is done by the modules it calls."""
