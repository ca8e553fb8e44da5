"""Files: contents in a folder, what is known of them in the stack's database."""
