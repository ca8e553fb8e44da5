"""What a key may look like. Imported with every declaration, so it imports nothing."""


def is_sendable(key: str) -> bool:
    """Whether the text can stand in a header."""
    return bool(key) and key.isascii() and key.isprintable()
