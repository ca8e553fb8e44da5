from typing import Any

import pytest

from llama_stack.errors import ConfigError
from llama_stack.substitution import Origin, spell, substitute


def filled(text: str, env: dict[str, str]) -> Any:
    tree, _ = substitute({"key": text}, env, where="file.yaml")
    return tree.get("key", "left out")


@pytest.mark.parametrize(
    ("text", "env", "value"),
    [
        ("${env.A}", {"A": "x"}, "x"),
        ("pre-${env.A}-post", {"A": "x"}, "pre-x-post"),
        ("${env.A}${env.B}", {"A": "x", "B": "y"}, "xy"),
        ("${env.A:=fallback}", {}, "fallback"),
        ("${env.A:=fallback}", {"A": ""}, "fallback"),
        ("${env.A:=fallback}", {"A": "x"}, "x"),
        ("${env.A:=http://host:80/v1}", {}, "http://host:80/v1"),
        ("${env.A:fallback}", {}, "fallback"),
        ("${env.A:fallback}", {"A": "x"}, "x"),
        ("${env.A:+value}", {"A": "x"}, "value"),
        ("${env.A:+value}", {"A": ""}, "left out"),
        ("${env.A:+value}", {}, "left out"),
        ("${env.A+value}", {"A": "x"}, "value"),
        ("${env.A+value}", {}, "left out"),
        ("${env.A:=}", {}, "left out"),
        ("${env.A}", {"A": ""}, "left out"),
        ("${env.A:=007}", {}, "007"),
        ("$${env.A}", {"A": "x"}, "${env.A}"),
        ("costs $5", {}, "costs $5"),
    ],
)
def test_every_spelling(text: str, env: dict[str, str], value: str) -> None:
    assert filled(text, env) == value


def test_a_variable_that_must_be_set_is_named_with_its_key_and_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"providers\.inference\[0\]\.config\.api_key needs .* ACME_KEY") as caught:
        substitute({"providers": {"inference": [{"config": {"api_key": "${env.ACME_KEY}"}}]}}, {}, where="my.yaml")
    assert "my.yaml" in caught.value.message
    assert "${env.ACME_KEY:=default}" in caught.value.message


@pytest.mark.parametrize("text", ["${ACME}", "${env.}", "${env.A-default}", "${environ.A}"])
def test_what_is_no_known_spelling_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no substitution"):
        filled(text, {})


def test_each_value_knows_where_it_came_from() -> None:
    _, origins = substitute(
        {"a": "${env.A}", "b": "${env.B:=1}", "c": 3, "d": ["${env.GONE:+x}", "${env.A}"]}, {"A": "x"}, where="f"
    )
    assert origins[("a",)] == Origin("environment", "A")
    assert origins[("b",)].kind == "substitution default"
    assert origins[("c",)] == Origin("file")
    assert origins[("d", 0)] == Origin("environment", "A")


def test_a_path_is_spelled_as_a_person_writes_it() -> None:
    assert spell(("providers", "inference", 0, "config", "url")) == "providers.inference[0].config.url"
