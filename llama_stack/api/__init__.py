"""The words and protocols every part of the stack speaks.

Nothing here does I/O or names a vendor. Import from the module that holds the word
(`llama_stack.api.inference`); this package re-exports nothing, so reading one word costs one small import.
"""
