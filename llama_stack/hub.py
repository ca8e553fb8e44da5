"""Models of the Hugging Face hub: `hf:owner/repo/file.gguf` and its file on this machine."""

from pathlib import Path

from llama_stack.errors import ConfigError

PREFIX = "hf:"


def cached_file(reference: str, home: Path) -> Path | None:
    """The downloaded file of a reference, None where it is not complete on this machine. Raises ConfigError."""
    parts = reference.removeprefix(PREFIX).split("/")
    if len(parts) < 3 or any(part in ("", ".", "..") for part in parts):
        raise ConfigError(f"{reference!r} does not name a file of the hub", remedy="Write hf:owner/repo/file.gguf.")
    path = home.joinpath("models", *parts)
    return path if path.is_file() else None
