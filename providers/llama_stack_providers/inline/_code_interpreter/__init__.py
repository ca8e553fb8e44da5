"""The code interpreter's parts: drivers that make sandboxes, the worker inside them, and the sessions."""
