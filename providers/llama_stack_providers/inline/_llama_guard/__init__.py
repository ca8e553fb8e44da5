"""Parts of `inline::llama-guard`."""
