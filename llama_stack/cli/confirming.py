"""Asking before something is lost."""

import sys

import click


def confirm(question: str, yes: bool) -> None:
    """Ask on the terminal. Raises UsageError where nobody can answer, Abort when the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is here to ask; say --yes", ctx=click.get_current_context())
    click.confirm(question, abort=True, err=True)
