"""Memory in the shapes of the classic client: vector databases, vector IO, the RAG tool, and the memory API of 2024."""
