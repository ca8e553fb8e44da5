"""A checkpoint as GGUF in F16, with its tokenizer and chat template, for llama.cpp and everything built on it."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from tools.micro_model.model import ModelShape
from tools.micro_model.tokenizer import PAD

CONTEXT_LENGTH = 2048
"""Told to whoever serves it. Training rows are half as long; beyond that, answers fall apart."""
CHAT_TEMPLATE = Path(__file__).parent / "chat_template.jinja"
TENSOR_NAMES = {
    "attention_norm": "attn_norm",
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "attention_out": "attn_output",
    "ffn_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def export_gguf(checkpoint: Path, tokenizer_path: Path, path: Path) -> None:
    """Write the model of a checkpoint; norms stay in F32, as llama.cpp wants them."""
    state = torch.load(checkpoint, weights_only=True)
    shape = ModelShape(**state["shape"])
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(path), "llama")
    add_description(writer, shape)
    add_tokenizer(writer, json.loads(tokenizer_path.read_text()), shape.vocab_size)
    for name, weight in state["weights"].items():
        array = weight.float().numpy()
        writer.add_tensor(gguf_name(name), array.astype(np.float32 if array.ndim == 1 else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """`blocks.3.query.weight` is `blk.3.attn_q.weight` there."""
    if name == "embedding.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, layer, part, _ = name.split(".")
    return f"blk.{layer}.{TENSOR_NAMES[part]}.weight"


def add_description(writer: Any, shape: ModelShape) -> None:
    writer.add_name("llama-micro")
    writer.add_description("A tiny tool-calling model for first runs and tests")
    writer.add_license("MIT")
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn_width)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_tokenizer(writer: Any, tokenizer: dict[str, Any], vocab_size: int) -> None:
    """The phrases of the wire format are user-defined tokens: plain text that is always one token."""
    texts = [f"<|unused_{number}|>" for number in range(vocab_size)]
    types = [gguf.TokenType.UNUSED] * vocab_size
    for text, number in tokenizer["model"]["vocab"].items():
        texts[number], types[number] = text, gguf.TokenType.NORMAL
    numbers: dict[str, int] = {}
    for added in tokenizer["added_tokens"]:
        texts[added["id"]] = added["content"]
        types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        numbers[added["content"]] = added["id"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    )
    writer.add_bos_token_id(numbers["<|begin_of_text|>"])
    writer.add_eos_token_id(numbers["<|eot_id|>"])
    writer.add_eot_token_id(numbers["<|eot_id|>"])
    writer.add_eom_token_id(numbers["<|eom_id|>"])
    writer.add_pad_token_id(numbers[PAD])
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE.read_text())
