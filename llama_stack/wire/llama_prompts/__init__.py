"""Llama's own prompt formats: rendering a conversation for the model, and reading the tool calls out of its text.

`families` knows the special tokens and tells the families apart, `prompt` is what a rendered prompt is made of,
`render` and `guard` write prompts, `tool_text` writes tools and calls, `parse` reads calls back.
Everything is pure. Import from the module that holds the word; this package re-exports nothing.
"""
