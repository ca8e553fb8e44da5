"""The model files that come with the stack."""

from pathlib import Path

from llama_stack.errors import ConfigError

PREFIX = "weights:"


def weights_folder() -> Path:
    """Where the shipped models lie: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "weights"
    return inside if inside.is_dir() else package.parent / "weights"


def find_weights(name: str) -> Path:
    """The file of a shipped model, such as `weights:llama-micro/llama-micro.gguf`.

    Raises ConfigError, naming the models there are, when it is not there; a name cannot lead out of the folder.
    """
    folder = weights_folder()
    path = (folder / name.removeprefix(PREFIX)).resolve()
    if path.is_relative_to(folder.resolve()) and path.is_file():
        return path
    there = sorted(str(file.relative_to(folder)) for file in folder.glob("*/*.gguf"))
    raise ConfigError(
        f"{name!r} is not among the models shipped with the stack",
        remedy=f"There are: {', '.join(PREFIX + file for file in there) or 'none'}.",
    )
