"""What language a text is in, and the words it is found by."""

from llama_stack.text.languages import language_of
from llama_stack.text.words import query_stems, stem_text, stems

__all__ = ["language_of", "query_stems", "stem_text", "stems"]
