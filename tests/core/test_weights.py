"""The model files that come with the stack."""

import pytest

from llama_stack.errors import ConfigError
from llama_stack.weights import find_weights, weights_folder


def test_a_shipped_model_is_found_by_its_name() -> None:
    path = find_weights("weights:all-minilm-l6-v2/all-minilm-l6-v2-q8_0.gguf")
    assert path.is_file()
    assert path.is_relative_to(weights_folder().resolve())


@pytest.mark.parametrize(
    "name", ["weights:none/none.gguf", "weights:../pyproject.toml", "weights:", "weights:/etc/passwd"]
)
def test_anything_else_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(ConfigError, match=r"weights:all-minilm-l6-v2/all-minilm-l6-v2-q8_0\.gguf"):
        find_weights(name)
