"""OpenAI's vector stores (API reference, "Vector stores"), their files, batches and search."""
