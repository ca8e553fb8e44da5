"""`llama stack doctor`: what a distribution lacks on this machine, and the command that mends each."""

import asyncio
from contextlib import aclosing
from dataclasses import asdict

import click

from llama_stack.cli.choosing import distribution_choice, json_option
from llama_stack.cli.printing import print_json, styled
from llama_stack.doctor import Finding, examine

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.command()
@json_option
@distribution_choice
def doctor(name_or_path: str, overrides: dict[str, object], model: str | None, as_json: bool) -> None:
    """Check that a distribution can run; say what mends it.

    Looks at this machine, the distribution's file, its variables, packages and models, and opens its providers.
    Ends with exit code 1 when something that would keep the stack from running was found.

    \b
    Examples:
      llama stack doctor
      llama stack doctor ./my-stack.yaml --json
    """
    findings = asyncio.run(_examine(name_or_path, overrides, model, quiet=as_json))
    failed = [finding for finding in findings if finding.state == "failed"]
    if as_json:
        print_json({"well": not failed, "findings": [asdict(finding) for finding in findings]})
    else:
        click.echo(f"\n{_summary(findings)}")
    if failed:
        raise click.exceptions.Exit(1)


async def _examine(name_or_path: str, overrides: dict[str, object], model: str | None, *, quiet: bool) -> list[Finding]:
    findings = []
    async with aclosing(examine(name_or_path, model=model, overrides=overrides)) as examination:
        async for finding in examination:
            findings.append(finding)
            if not quiet:
                _print(finding)
    return findings


def _summary(findings: list[Finding]) -> str:
    failed, warnings = (sum(one.state == state for one in findings) for state in ("failed", "warning"))
    if failed:
        return f"{failed} of {len(findings)} checks failed."
    if warnings:
        return f"It can run, with {warnings} {'warning' if warnings == 1 else 'warnings'}."
    return "All is well."


def _print(finding: Finding) -> None:
    mark = styled(f"{finding.state:<8}", fg=COLOURS[finding.state])
    click.echo(f"{mark} {finding.subject}: {finding.detail}")
    if finding.remedy:
        click.echo(f"         mend it: {finding.remedy}")
