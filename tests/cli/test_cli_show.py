"""`llama stack list`, `list-apis`, `list-providers` and `show`."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from llama_stack.catalog import Catalog
from llama_stack.distribution import find_distributions
from tests.cli.running import Llama, assert_refused

Write = Callable[..., str]

DISTRIBUTION = """\
version: 1
name: mine
description: for tests
server:
  host: ${env.ACME_HOST:=localhost}
  port: 8400
storage:
  url: postgresql://ann:${env.ACME_PASSWORD}@db/stack
providers:
  inference:
    - provider_id: upstream
      provider_type: remote::openai-compatible
      config:
        base_url: ${env.ACME_URL:=http://localhost:8000/v1}
        api_key: ${env.ACME_KEY}
      models:
        - identifier: big
"""
ENV = {"ACME_PASSWORD": "sesame-1", "ACME_KEY": "sesame-2", "ACME_URL": "http://acme/v1"}


def test_the_distributions_are_listed(llama: Llama) -> None:
    rows = json.loads(llama("stack", "list", "--json").stdout)
    assert [row["name"] for row in rows] == [file.stem for file in find_distributions()]
    plain = llama("stack", "list").stdout.splitlines()
    assert plain[0].split() == ["NAME", "DESCRIPTION"]
    assert [line.split()[0] for line in plain[1:]] == [row["name"] for row in rows]


def test_every_api_is_listed_with_its_providers(llama: Llama) -> None:
    rows = json.loads(llama("stack", "list-apis", "--json").stdout)
    assert [row["api"] for row in rows] == ["inference", "safety", "memory", "tools"]
    assert rows[0]["providers"] >= 1
    assert all(row["description"] for row in rows)


def test_every_provider_is_listed_with_its_settings(llama: Llama) -> None:
    rows = json.loads(llama("stack", "list-providers", "--json").stdout)
    assert [row["provider_type"] for row in rows] == Catalog().types()
    engine = next(row for row in rows if row["provider_type"] == "inline::llama-cpp")
    assert engine["api"] == "inference"
    assert engine["package"] == "llama-stack"
    assert engine["summary"]
    assert "threads" in engine["settings"]
    assert engine["settings"]["threads"]["description"]


def test_providers_of_one_api(llama: Llama) -> None:
    assert json.loads(llama("stack", "list-providers", "safety", "--json").stdout) == [
        row for row in json.loads(llama("stack", "list-providers", "--json").stdout) if row["api"] == "safety"
    ]


def test_an_unknown_api_is_answered_with_the_nearest(llama: Llama) -> None:
    assert_refused(llama("stack", "list-providers", "inferense"), "'inferense'", "Did you mean 'inference'?")


@pytest.fixture
def values(write_distribution: Write, llama: Llama) -> dict[str, Any]:
    flags = ("--port", "9001", "--set", "providers.inference.upstream.config.timeout_s=7")
    shown = llama("stack", "show", write_distribution(DISTRIBUTION), "--resolved", "--json", *flags, **ENV)
    assert shown.stderr == ""
    found: dict[str, Any] = json.loads(shown.stdout)["values"]
    return found


@pytest.mark.parametrize(
    ("key", "value", "origin"),
    [
        ("name", "mine", "file"),
        ("server.host", "localhost", "substitution default (ACME_HOST is not set)"),
        ("server.port", 9001, "--port"),
        ("server.max_body_bytes", 32 * 1024 * 1024, "default"),
        ("providers.inference[0].config.base_url", "http://acme/v1", "environment ACME_URL"),
        ("providers.inference[0].config.timeout_s", 7, "--set"),
        ("providers.inference[0].models[0].identifier", "big", "file"),
        ("providers.inference[0].models[0].model_type", "llm", "default"),
    ],
)
def test_each_value_is_shown_with_where_it_came_from(
    key: str, value: object, origin: str, values: dict[str, Any]
) -> None:
    assert values[key] == {"value": value, "origin": origin}


def test_a_setting_nobody_wrote_is_the_providers_default(values: dict[str, Any]) -> None:
    origins = {row["origin"] for key, row in values.items() if ".config." in key}
    assert origins == {"environment ACME_URL", "environment ACME_KEY", "--set", "provider default"}


@pytest.mark.parametrize("form", [("--resolved", "--json"), ("--resolved",), ()], ids=" ".join)
def test_secrets_are_never_shown(form: tuple[str, ...], write_distribution: Write, llama: Llama) -> None:
    shown = llama("stack", "show", write_distribution(DISTRIBUTION), *form, **ENV)
    assert shown.returncode == 0
    assert "sesame" not in shown.stdout + shown.stderr


def test_masked_secrets_still_say_where_they_came_from(values: dict[str, Any]) -> None:
    assert values["providers.inference[0].config.api_key"] == {"value": "**********", "origin": "environment ACME_KEY"}
    assert values["storage.url"]["value"] == "postgresql://ann:**********@db/stack"


def test_the_state_folder_is_a_value_too(values: dict[str, Any], stack_home: object) -> None:
    assert values["home"] == {"value": str(stack_home), "origin": "environment LLAMA_STACK_HOME"}


def test_an_env_option_counts_as_the_environment(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution("version: 1\nname: ${env.ACME_NAME}\nproviders: {}\n")
    shown = llama("stack", "show", file, "--resolved", "--json", "--env", "ACME_NAME=007")
    assert json.loads(shown.stdout)["values"]["name"] == {"value": "007", "origin": "environment ACME_NAME"}


def test_the_overview_names_what_is_served(write_distribution: Write, llama: Llama) -> None:
    shown = llama("stack", "show", write_distribution(DISTRIBUTION), **ENV).stdout
    assert shown.startswith("mine: for tests\n")
    assert "localhost:8400" in shown
    assert shown.splitlines()[-1].split() == ["upstream", "remote::openai-compatible", "inference", "big"]


def test_an_override_that_fits_nowhere_is_refused(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution(DISTRIBUTION)
    assert_refused(llama("stack", "show", file, "--set", "server.prot=1", **ENV), "server.prot", "'port'")
    assert_refused(llama("stack", "show", file, "--set", "providers.inference.x.config.y=1", **ENV), "'x'")
    assert_refused(llama("stack", "show", file, "--set", "port=1", **ENV), "--set", "KEY=VALUE")
