"""The options by which several commands choose a distribution and change some of its values."""

import os
import re
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from llama_stack.cli.lazy import nearest
from llama_stack.cli.local_models import find_local_model, local_models
from llama_stack.distribution import load_distribution
from llama_stack.errors import ConfigError
from llama_stack.hub import PREFIX as HUB_PREFIX
from llama_stack.weights import PREFIX as WEIGHTS_PREFIX
from llama_stack.wire.llama_prompts.families import family_for

DEFAULT_DISTRIBUTION = "starter"

Pair = tuple[str, str]

distribution_name = click.argument("name_or_path", metavar="[NAME|PATH]", default=DEFAULT_DISTRIBUTION)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def assignments(key: str, example: str) -> Callable[[click.Context, click.Parameter, Sequence[str]], list[Pair]]:
    """An option's callback that reads each KEY=VALUE; `key` is what a key looks like, `example` is for the error."""

    def read(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> list[Pair]:
        pairs = [value.partition("=") for value in values]
        for name, equals, text in pairs:
            if not equals or not re.fullmatch(key, name):
                raise click.BadParameter(f"{name + equals + text!r} is not KEY=VALUE, such as {example}", ctx, param)
        return [(name, text) for name, _, text in pairs]

    return read


def local_or_given(model: str) -> str:
    """What a distribution writes for the model a person names. Raises ConfigError when there is no such model."""
    local = find_local_model(model)
    if local is not None:
        return local.reference
    if model.startswith((HUB_PREFIX, WEIGHTS_PREFIX)):
        return model
    path = Path(model).expanduser()
    if path.is_file():
        return str(path.absolute())
    ways = "Give a GGUF file's path, hf:owner/repo/file.gguf, or the name of a local model."
    if family_for(model) is None:
        ways = f"{nearest(model, [one.name for one in local_models()])} {ways}"
    else:
        ways = f"The embedded engine runs GGUF files, which Meta's own weights are not. {ways}"
    raise ConfigError(f"--model: there is no file and no local model {model!r}", remedy=ways)


def distribution_choice(command: Callable[..., None]) -> Callable[..., None]:
    """Add NAME|PATH and the options that change a distribution.

    The command receives `name_or_path`, `overrides` (dotted key -> value) and `model`, as for `load_distribution`.
    """

    @wraps(command)
    def receive(
        *args: Any,
        port: int | None,
        host: str | None,
        model: str | None,
        env: Sequence[Pair],
        settings: Sequence[Pair],
        **kwargs: Any,
    ) -> None:
        # Set for the whole process, not for the substitution alone: LLAMA_STACK_HOME and HF_TOKEN are read elsewhere.
        os.environ.update(env)
        flags = {"server.port": port, "server.host": host}
        overrides = dict(settings) | {key: value for key, value in flags.items() if value is not None}
        command(*args, overrides=overrides, model=None if model is None else local_or_given(model), **kwargs)

    for option in reversed(_OPTIONS):
        receive = option(receive)
    return receive


def distribution_options(command: Callable[..., None]) -> Callable[..., None]:
    """As `distribution_choice`, for a command that takes the loaded `distribution`."""

    @wraps(command)
    def receive(*args: Any, name_or_path: str, overrides: dict[str, Any], model: str | None, **kwargs: Any) -> None:
        command(*args, distribution=load_distribution(name_or_path, overrides=overrides, model=model), **kwargs)

    return distribution_choice(receive)


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    distribution_name,
    click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on, in place of the file's."),
    click.option("--host", metavar="ADDRESS", help="Address to listen on; 0.0.0.0 lets other machines in."),
    click.option(
        "--model",
        metavar="GGUF",
        help="Model for the embedded engine: a path, hf:owner/repo/file.gguf, or the name of a local model.",
    ),
    click.option(
        "--env",
        metavar="KEY=VALUE",
        callback=assignments(r"[A-Za-z_]\w*", "--env OLLAMA_URL=http://localhost:11434"),
        multiple=True,
        help="Set an environment variable first. Repeatable.",
    ),
    click.option(
        "--set",
        "settings",
        metavar="KEY=VALUE",
        callback=assignments(r"[\w:-]+(\.[\w:-]+)+", "--set providers.inference.llama-cpp.config.threads=2"),
        multiple=True,
        help="Replace one value of the file, by its dotted key. Repeatable.",
    ),
)
