from pathlib import Path
from typing import Any

import pytest

from llama_stack.distribution import find_distributions, load_distribution, model_name
from llama_stack.errors import ConfigError
from llama_stack.substitution import Origin

SMALL = """
version: 1
name: small
server:
  port: ${env.TEST_PORT:=9000}
providers:
  inference:
    - provider_id: engine
      provider_type: inline::llama-cpp
      models:
        - identifier: "007"
          provider_resource_id: a.gguf
        - identifier: embedder
          provider_resource_id: b.gguf
          model_type: embedding
"""


@pytest.fixture
def small(tmp_path: Path) -> str:
    return written(tmp_path, SMALL)


def written(folder: Path, text: str) -> str:
    file = folder / "small.yaml"
    file.write_text(text)
    return str(file)


def refusal(path: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_distribution(path, env={}, **options)
    return caught.value.message


def test_every_shipped_distribution_loads_without_any_variable_set() -> None:
    names = [file.stem for file in find_distributions()]
    assert "starter" in names
    for name in names:
        assert load_distribution(name, env={}).name == name


def test_a_substituted_value_takes_the_type_of_its_field(small: str) -> None:
    distribution = load_distribution(small, env={"TEST_PORT": "8123"})
    assert distribution.server.port == 8123
    assert distribution.providers.inference[0].models[0].identifier == "007"
    assert distribution.origins[("server", "port")] == Origin("environment", "TEST_PORT")


def test_a_flag_beats_file_and_environment(small: str) -> None:
    distribution = load_distribution(small, env={"TEST_PORT": "8123"}, overrides={"server.port": 7000})
    assert distribution.server.port == 7000
    assert distribution.origins[("server", "port")] == Origin("flag")


def test_a_flag_reaches_a_provider_by_its_id(small: str) -> None:
    distribution = load_distribution(small, env={}, overrides={"providers.inference.engine.config.threads": "2"})
    assert distribution.providers.inference[0].config == {"threads": "2"}


def test_model_swaps_the_language_model_and_keeps_the_embedding_model(small: str) -> None:
    distribution = load_distribution(small, env={}, model="hf:owner/repo/Llama-3.2-1B-Q4.gguf")
    models = distribution.providers.inference[0].models
    assert [(m.identifier, m.provider_resource_id) for m in models] == [
        ("Llama-3.2-1B-Q4", "hf:owner/repo/Llama-3.2-1B-Q4.gguf"),
        ("embedder", "b.gguf"),
    ]


def test_model_keeps_the_model_that_a_shield_asks() -> None:
    distribution = load_distribution("starter", env={}, model="hf:owner/repo/Llama-3.2-1B-Q4.gguf")
    models = [model.identifier for model in distribution.providers.inference[0].models]
    assert models == ["Llama-3.2-1B-Q4", "llama-micro", "all-minilm-l6-v2"]


def test_a_provider_whose_id_comes_out_empty_is_kept_out(tmp_path: Path) -> None:
    text = SMALL.replace("provider_id: engine", "provider_id: ${env.NOT_SET:+engine}")
    assert load_distribution(written(tmp_path, text), env={}).providers.inference[0].provider_id is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("version: 1", "version: [1"), "line "),
        (("name: small", "name: small\nname: again"), "the key 'name' stands twice"),
        (("version: 1", "version: 9"), "version"),
        (("server:", "servers:"), "servers is not a known key; did you mean 'server'?"),
        (("provider_type:", "provider_typ:"), "provider_typ is not a known key; did you mean 'provider_type'?"),
        (("          model_type: embedding", "          modeltype: embedding"), "did you mean 'model_type'?"),
        (("${env.TEST_PORT:=9000}", "99999"), "server.port: input should be less than or equal to 65535"),
        (("${env.TEST_PORT:=9000}", "soon"), "server.port: input should be a valid integer"),
        (("${env.TEST_PORT:=9000}", "${env.TEST_PORT}"), "environment variable TEST_PORT, which is not set"),
        (("name: small", ""), "name is required"),
    ],
)
def test_a_wrong_file_is_refused_with_key_and_reason(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = written(tmp_path, SMALL.replace(*change))
    text = refusal(path)
    assert message in text
    assert path in text


def test_an_unknown_name_is_answered_with_the_nearest_and_all() -> None:
    text = refusal("startr")
    assert "Did you mean 'starter'?" in text
    assert "openai-compatible" in text


def test_what_is_known_is_told_once_and_what_is_no_file_of_ours_by_its_form(tmp_path: Path) -> None:
    text = refusal(written(tmp_path, f"{SMALL}wholly: 1\nother: 2\n"))
    assert "wholly is not a known key; other is not a known key; known keys: " in text
    classic = "version: '2'\nimage_name: ollama\napis: [inference]\nproviders: {}\nmodels: []\n"
    text = refusal(written(tmp_path, classic))
    assert "another Llama Stack (apis, image_name)" in text
    assert "starter.yaml" in text
    assert f"{tmp_path} is a folder" in refusal(str(tmp_path))


def test_a_missing_file_and_a_swap_without_an_engine_are_refused(tmp_path: Path) -> None:
    assert "there is no file" in refusal(str(tmp_path / "none.yaml"))
    remote = SMALL.replace("inline::llama-cpp", "remote::openai-compatible")
    assert "--model" in refusal(written(tmp_path, remote), model="x.gguf")


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("/a/b/My.gguf", "My"),
        ("hf:o/r/Llama-3.gguf", "Llama-3"),
        ("C:\\m\\x.GGUF", "x"),
        ("llama-micro", "llama-micro"),
    ],
)
def test_a_model_is_named_after_its_file(reference: str, name: str) -> None:
    assert model_name(reference) == name
