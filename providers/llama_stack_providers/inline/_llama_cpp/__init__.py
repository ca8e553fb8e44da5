"""The embedded engine's parts: one supervised llama.cpp process per loaded model, and what speaks to it."""
