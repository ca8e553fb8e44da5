"""Models the tests make themselves: a GGUF with another template, and a tiny reranker of random weights."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

CHATML = (
    "{%- if tools %}{{ '<|im_start|>system\n# Tools\n' }}{%- for tool in tools %}{{ tool | tojson }}{{ '\n' }}"
    "{%- endfor %}{{ '<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)

JSON_CALLS = (
    "{%- if tools %}{{ '<|im_start|>system\n' }}{%- for tool in tools %}{{ tool | tojson }}{{ '\n' }}{%- endfor %}"
    "{{ '<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.tool_calls %}{%- for call in message.tool_calls %}"
    """{{ '{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) + '}' }}"""
    "{%- endfor %}{%- else %}{{ message.content }}{%- endif %}{{ '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)


def rewrite(source: Path, target: Path, changes: dict[str, Any]) -> Path:
    """Copy a GGUF with some metadata changed; None removes a key."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.get_field("general.architecture").contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value = changes.get(field.name, field.contents())
        if value is not None:
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, value, field.types[0], inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    _write(writer)
    return target


def random_reranker(minilm: Path, target: Path) -> Path:
    """The embedding model with a random scoring head instead of mean pooling: a cross-encoder by its form."""
    reader = gguf.GGUFReader(minilm)
    writer = gguf.GGUFWriter(target, "bert")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "bert.pooling_type"):
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], inner)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    chance = np.random.default_rng(7)
    writer.add_tensor("cls.weight", chance.normal(0, 0.05, (384, 384)).astype(np.float32))
    writer.add_tensor("cls.bias", np.zeros(384, np.float32))
    writer.add_tensor("cls.output.weight", chance.normal(0, 0.05, (1, 384)).astype(np.float32))
    writer.add_tensor("cls.output.bias", np.zeros(1, np.float32))
    _write(writer)
    return target


def _write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
