"""Which files a person means who names files and folders."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llama_stack.errors import InvalidRequest

MAX_FILES = 50_000
"""That are taken in at once."""

# What tools put there, and nobody wrote.
_MADE_FOLDERS = frozenset(
    ("__pycache__", "bower_components", "build", "dist", "node_modules", "site-packages", "target", "venv")
)
_WITHOUT_TEXT = {
    "archives": ".7z .bz2 .gz .iso .jar .rar .tar .tgz .whl .xz .zip .zst",
    "pictures": ".bmp .gif .ico .jpeg .jpg .png .svg .tif .tiff .webp",
    "sound and films": ".aac .avi .flac .mkv .mov .mp3 .mp4 .ogg .wav .webm",
    "programs and fonts": ".a .class .dll .dylib .exe .o .otf .pyc .pyo .so .ttf .wasm .woff .woff2",
    "data of programs": ".bin .db .gguf .lock .map .npy .onnx .parquet .pkl .pt .safetensors .sqlite",
}
_KIND_OF_SUFFIX = {suffix: kind for kind, suffixes in _WITHOUT_TEXT.items() for suffix in suffixes.split()}


@dataclass(frozen=True)
class Skipped:
    """What lies in a folder and is not taken. reason: in a few words that several share."""

    path: Path
    reason: str


@dataclass(frozen=True)
class FoundFiles:
    """files: absolute, in the order in which they were named, each once."""

    files: Sequence[Path]
    skipped: Sequence[Skipped] = ()


def find_files(named: Iterable[str | Path]) -> FoundFiles:
    """The files that are named, and those in the folders that are named, by name.

    A file that is named itself is always taken. In a folder, what is hidden, empty, a link, made by a tool, or of a
    kind that holds no text is skipped. Raises InvalidRequest for what is not there or no regular file, and beyond
    `MAX_FILES`.
    """
    files: dict[Path, None] = {}
    skipped: list[Skipped] = []
    for one in named:
        path = Path(one).expanduser().absolute()
        if path.is_dir():
            for found in _walked(path):
                if isinstance(found, Skipped):
                    skipped.append(found)
                else:
                    files[found] = None
                if len(files) > MAX_FILES:
                    raise InvalidRequest(f"{path} holds more than {MAX_FILES} files; name folders within it")
        elif path.is_file():
            files[Path(os.path.normpath(path))] = None
        elif path.exists():
            raise InvalidRequest(
                f"{str(one)!r} is not a regular file but a device, a pipe or a socket; give its contents as a text, on "
                "the command line by `-`"
            )
        else:
            raise InvalidRequest(
                f"there is no file or folder {str(one)!r}; to remember a text, give it as a text, not as a path"
            )
    return FoundFiles(list(files), skipped)


def _walked(folder: Path) -> Iterator[Path | Skipped]:
    """Links are not followed, so the walk ends."""
    for at, folders, names in os.walk(os.path.normpath(folder)):
        here = Path(at)
        folders.sort()
        for name in list(folders):
            reason = _folder_is_left_out(here / name)
            if reason is not None:
                folders.remove(name)
                yield Skipped(here / name, reason)
        for name in sorted(names):
            reason = _file_is_left_out(here / name)
            yield here / name if reason is None else Skipped(here / name, reason)


def _folder_is_left_out(folder: Path) -> str | None:
    if folder.name.startswith("."):
        return "hidden"
    if folder.name in _MADE_FOLDERS or (folder / "pyvenv.cfg").is_file():
        return "made by a tool"
    return "links" if folder.is_symlink() else None


def _file_is_left_out(file: Path) -> str | None:
    if file.name.startswith("."):
        return "hidden"
    if file.suffix.lower() in _KIND_OF_SUFFIX:
        return _KIND_OF_SUFFIX[file.suffix.lower()]
    try:
        if file.is_symlink():
            return "links"
        if not file.is_file():
            return "not regular files"
        return "empty" if file.stat().st_size == 0 else None
    except OSError:
        return "not readable"
