"""`llama model download`, `verify-download` and `remove`."""

import asyncio
import hashlib
from fnmatch import fnmatch
from pathlib import Path

import click

from llama_stack.cli.choosing import json_option
from llama_stack.cli.confirming import confirm
from llama_stack.cli.fetching import fetch
from llama_stack.cli.local_models import find_local_model
from llama_stack.cli.printing import print_json, print_note, progress_bar, size_words
from llama_stack.cli.registry import nearest_models, registered_model
from llama_stack.compose import stack_home
from llama_stack.errors import ConfigError, NotFound, ProviderFailed
from llama_stack.hub import PREFIX, HubReference, list_files, verify
from llama_stack.hub import remove as remove_download

CHECKLIST = "checklist.chk"
ORIGINALS = "original/*"
"""Where Meta's repositories keep a second copy of the weights, in Meta's own format."""


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--exclude", multiple=True, help="Skip files of a repository by pattern, such as '*.pth'. Repeatable.")
@click.option("--original", is_flag=True, help="Take a repository's weights in Meta's own format instead.")
@json_option
def download(model: str, exclude: tuple[str, ...], original: bool, as_json: bool) -> None:
    """Fetch a model from Hugging Face.

    MODEL is one file (hf:owner/repository/file.gguf), a whole repository (hf:owner/repository), or one of
    Meta's models by its name in `llama model list`. What broke off is continued. HF_TOKEN gives access to gated
    models, HF_ENDPOINT names a mirror. The embedded engine runs GGUF files.

    \b
    Examples:
      llama model download hf:owner/repository/file.gguf
      llama model download Llama3.2-1B-Instruct
    """
    paths = asyncio.run(_download(model, exclude, original))
    if as_json:
        print_json({"model": model, "files": paths})
    elif len(paths) == 1:
        click.echo(paths[0])
        if paths[0].endswith(".gguf"):
            print_note(f"Serve it: llama stack run --model {Path(paths[0]).stem}")
    else:
        click.echo("\n".join(paths))


async def _download(model: str, exclude: tuple[str, ...], original: bool) -> list[str]:
    reference = _reference(model)
    if _is_file(reference):
        return [await fetch(reference)]
    repository = reference.removeprefix(PREFIX)
    names = await list_files(repository, stack_home())
    has_both = any(fnmatch(name, ORIGINALS) for name in names) and any(name.endswith(".safetensors") for name in names)
    if has_both:
        names = [name for name in names if fnmatch(name, ORIGINALS) == original or "." not in name]
    names = [name for name in names if not any(fnmatch(name, pattern) for pattern in exclude)]
    return [await fetch(reference) for reference in _first_parts([f"{PREFIX}{repository}/{name}" for name in names])]


def _is_file(reference: str) -> bool:
    return reference.removeprefix(PREFIX).count("/") >= 2


def _reference(model: str) -> str:
    """`hf:owner/repository/file` or `hf:owner/repository` of what a person typed. Raises NotFound, or ConfigError."""
    local = find_local_model(model)
    if local is not None and local.reference.startswith(PREFIX):
        return local.reference
    if model.startswith(PREFIX):
        if model.count("/") == 0:
            raise ConfigError(
                f"{model!r} names no repository of the hub",
                remedy="Write hf:owner/repository, or hf:owner/repository/file.gguf.",
            )
        return model
    registered = registered_model(model)
    if registered is None or registered.huggingface_repo is None:
        near = nearest_models(model)
        hint = f"Did you mean {' or '.join(near)}?" if near else "Name it hf:owner/repository/file.gguf."
        raise NotFound(f"there is no model '{model}'. {hint}")
    return f"{PREFIX}{registered.huggingface_repo}"


@click.command("verify-download")
@click.argument("model", metavar="MODEL")
@json_option
def verify_download(model: str, as_json: bool) -> None:
    """Check a download's checksums.

    Against those the hub announced when the files were fetched, and against Meta's checklist.chk where a
    repository holds one. Ends with exit code 1 when a file is damaged or missing.

    \b
    Examples:
      llama model verify-download hf:owner/repository/file.gguf
      llama model verify-download Llama3.2-1B-Instruct
    """
    verdicts = asyncio.run(_verify(_reference(model)))
    if as_json:
        print_json({"model": model, "files": verdicts})
    else:
        for name, trouble in verdicts.items():
            click.echo(f"{name}: {trouble or 'ok'}")
    if any(verdicts.values()):
        raise click.exceptions.Exit(1)


async def _verify(reference: str) -> dict[str, str | None]:
    """Each file with what is wrong with it, None where nothing is."""
    verdicts: dict[str, str | None] = {}
    for file in _downloaded(reference):
        with progress_bar(f"checking {file.rpartition('/')[2]}") as report:
            try:
                await verify(file, stack_home(), progress=report)
                verdicts[file] = None
            except ProviderFailed as error:
                verdicts[file] = str(error)
    for checklist in [file for file in verdicts if file.endswith(CHECKLIST)]:
        verdicts |= await asyncio.to_thread(_check_list, HubReference.parse(checklist).local_path(stack_home()))
    return verdicts


def _check_list(checklist: Path) -> dict[str, str | None]:
    """Meta's `checklist.chk`: lines of an MD5 and a file name, as `md5sum --check` reads them."""
    verdicts: dict[str, str | None] = {}
    for line in checklist.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.strip().partition(" ")
        file = checklist.parent / name.strip().removeprefix("*").removeprefix("./")
        if not name:
            continue
        label = f"{CHECKLIST}: {file.name}"
        if not file.is_file():
            verdicts[label] = "missing"
            continue
        with file.open("rb") as content:
            found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        verdicts[label] = None if found == expected.lower() else f"damaged: its MD5 is {found}, not {expected}"
    return verdicts


def _downloaded(reference: str) -> list[str]:
    """The references of the downloaded files that one reference stands for. Raises NotFound when there is none."""
    if _is_file(reference):
        return [reference]
    # Checks the name too: it must not lead out of the folder.
    folder = HubReference.parse(f"{reference}/{CHECKLIST}").local_path(stack_home()).parent
    # Each download lies beside the record of its checksum.
    records = [path for path in sorted(folder.rglob("*.json")) if path.with_suffix("").is_file()]
    if not records:
        raise NotFound(f"nothing of {reference} was downloaded to {folder}; run: llama model download {reference}")
    return _first_parts([f"{reference}/{path.with_suffix('').relative_to(folder).as_posix()}" for path in records])


def _first_parts(references: list[str]) -> list[str]:
    """Without the later files of models in several: their first stands for them all."""
    parsed = {reference: HubReference.parse(reference) for reference in references}
    return [reference for reference, file in parsed.items() if file.parts()[0] == file]


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def remove(model: str, yes: bool, as_json: bool) -> None:
    """Delete a downloaded model.

    MODEL is a name or reference from `llama model list --local`. Models shipped with the stack stay.

    \b
    Examples:
      llama model remove Llama-3.2-1B-Instruct-Q4_K_M
      llama model remove hf:owner/repository --yes
    """
    local = find_local_model(model)
    if local is not None and local.shipped:
        raise NotFound(f"'{model}' is shipped with the stack; only downloads can be removed")
    files = _downloaded(_reference(model))
    parts = [part for file in files for part in HubReference.parse(file).parts()]
    paths = [part.local_path(stack_home()) for part in parts]
    size = sum(path.stat().st_size for path in paths if path.is_file())
    confirm(f"Delete {', '.join(files)} ({size_words(size)})?", yes)
    for file in files:
        remove_download(file, stack_home())
    if as_json:
        print_json({"removed": files, "size_bytes": size})
    else:
        click.echo(f"Removed {size_words(size)}.")
