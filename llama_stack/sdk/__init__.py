"""What an application holds: a stack, in this process or far away, and agents on it. Import it from `llama_stack`."""
