"""`llama stack build`: a distribution becomes a virtual environment or a container image."""

import os
import re
import shlex
from pathlib import Path

import click

from llama_stack import __version__
from llama_stack.build import (
    BuildPlan,
    build_environment,
    build_image,
    find_image_tool,
    image_command,
    plan_build,
    write_container_context,
)
from llama_stack.cli.choosing import distribution_name, json_option
from llama_stack.cli.printing import print_json, print_note
from llama_stack.distribution import find_distributions, load_distribution


@click.command()
@distribution_name
@click.option(
    "--image-type",
    type=click.Choice(["venv", "container"]),
    default="venv",
    show_default=True,
    help="What to make.",
)
@click.option("--target", type=click.Path(path_type=Path, file_okay=False), help="Folder to make it in.")
@click.option("--print-deps", is_flag=True, help="Only print the pip requirements, one a line.")
@json_option
def build(name_or_path: str, image_type: str, target: Path | None, print_deps: bool, as_json: bool) -> None:
    """Make an environment or a container image for a distribution.

    Only what its providers need is installed. uv is used where it is found, pip otherwise; the image is
    built where docker or podman works, and its Containerfile is left in the target folder in any case.

    \b
    Examples:
      llama stack build starter --target ./starter-env
      llama stack build starter --image-type container
      llama stack build starter --print-deps > requirements.txt
    """
    plan = plan_build(load_distribution(name_or_path))
    if print_deps:
        _print_requirements(plan, as_json)
        return
    target = target or Path(f"llama-stack-{_slug(plan.distribution.name)}")
    outcome = _environment(plan, name_or_path, target) if image_type == "venv" else _container(plan, target)
    if as_json:
        print_json(outcome)


def _print_requirements(plan: BuildPlan, as_json: bool) -> None:
    if as_json:
        print_json({"requirements": plan.requirements})
    else:
        click.echo("\n".join(plan.requirements))


def _environment(plan: BuildPlan, name_or_path: str, target: Path) -> dict[str, str]:
    llama = build_environment(plan, target)
    shipped = name_or_path in {file.stem for file in find_distributions()}
    which = name_or_path if shipped else str(Path(name_or_path).absolute())
    run = shlex.join([str(llama), "stack", "run", which])
    print_note(f"The environment is ready in {target}. Start the stack:\n  {run}")
    return {"environment": str(target), "run": run}


def _container(plan: BuildPlan, target: Path) -> dict[str, str | None]:
    containerfile = write_container_context(plan, target)
    tag = f"llama-stack-{_slug(plan.distribution.name)}:{__version__}"
    tool = find_image_tool()
    outcome = {"containerfile": str(containerfile), "image": None, "trouble": None}
    for path in _outside_models(plan):
        print_note(f"Note: {path} is a file of this machine; mount it into the container at the same path.")
    if tool is None or tool.trouble is not None:
        by_hand = shlex.join(image_command(tool.command if tool else "docker", tag, target))
        trouble = "neither docker nor podman is installed" if tool is None else f"{tool.command}: {tool.trouble}"
        print_note(f"{containerfile} is ready, but the image was not built: {trouble}")
        print_note(f"Build it where an engine runs:\n  {by_hand}")
        return outcome | {"trouble": trouble, "build": by_hand}
    build_image(tool, tag, target)
    run = f"{tool.command} run --publish {plan.distribution.server.port}:{plan.distribution.server.port} {tag}"
    print_note(f"The image {tag} is ready. Start it:\n  {run}")
    return outcome | {"image": tag, "run": run}


def _outside_models(plan: BuildPlan) -> list[str]:
    ids = [
        model.provider_resource_id or "" for entry in plan.distribution.providers.inference for model in entry.models
    ]
    return [model for model in ids if os.path.isabs(model)]  # noqa: PTH117  a model's name need not be a path at all


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "stack"
