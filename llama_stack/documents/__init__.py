"""Documents: files of many formats become readable text with its structure, and text becomes pieces to remember."""
