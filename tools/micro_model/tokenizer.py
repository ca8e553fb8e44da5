"""The tokenizer: byte-level BPE made for copying.

Three decisions, all for a model whose main skill is to repeat the user's words exactly:

- No merge crosses a space, a digit or a punctuation mark, so a word has the same tokens after a space, a quote or a
  line end, and every digit is a token of its own.
- Short function words get a second token with their leading space: they are frequent and never open a value.
- The fixed phrases of the wire format (the tool instruction, the JSON around a tool's fields, the guard policy) are
  single tokens. A prompt with four tools shrinks to less than half, and the model need not learn to spell JSON.

The pre-tokenizer is the one of llama.cpp's `llama-bpe`, so the same file serves Hugging Face `tokenizers` and GGUF.
"""

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.micro_model.dialogues import Difficulty, draw_tree
from tools.micro_model.prompts import GUARD_CATEGORIES, TOOLS_INSTRUCTION, guard_prompt_close, guard_prompt_open, header
from tools.micro_model.vocabulary import named_lists, word_lists

VOCABULARY_SIZE = 2304
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Used while learning merges only: every space, digit and punctuation mark stands alone.
STRICT_SPLIT = r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]|\n|[^\S\n]"
SPECIAL_TOKENS = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|step_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<|image|>",
]
PAD = "<|finetune_right_pad_id|>"
SPACED_WORDS = [
    "the",
    "a",
    "an",
    "of",
    "and",
    "to",
    "for",
    "in",
    "on",
    "at",
    "is",
    "are",
    "was",
    "were",
    "be",
    "it",
    "that",
    "this",
    "with",
    "from",
    "by",
    "as",
    "or",
    "not",
    "what",
    "who",
    "how",
    "when",
    "where",
    "which",
    "me",
    "my",
    "you",
    "your",
    "can",
    "do",
    "does",
    "I",
    "we",
    "our",
    "many",
    "much",
    "please",
]


def phrase_tokens() -> list[str]:
    """Fixed text of the wire format that is one token each.

    `tokenizers` takes the leftmost phrase, llama.cpp the longest one anywhere: the two agree as long as no phrase ends
    as a longer one begins. So a closing quote always belongs to the phrase behind it, never to the one before it.
    """
    phrases = [
        TOOLS_INSTRUCTION,
        '{"type": "function", "function": {"name": "',
        '", "description": "',
        '", "parameters": {"type": "object", "properties": {"',
        '", "parameters": {"type": "object", "properties": {',
        '": {"type": "string',
        '": {"type": "integer',
        '": {"type": "number',
        '": {"type": "boolean',
        '"}, "',
        '"}}, "required": ["',
        '"]}}}\n\n',
        '"], "additionalProperties": false}}}\n\n',
        '"}}, "additionalProperties": false}}}\n\n',
        '"}}}}}\n\n',
        "}}}}\n\n",
        '", "enum": ["',
        '"]}, "',
        '"]}}, "required": ["',
        '"]}}}}}\n\n',
        '"]}}, "additionalProperties": false}}}\n\n',
        '{"name": "',
        '", "parameters": {"',
        '", "parameters": {',
        '": "',
        '": ',
        '", "',
        ', "',
        '"}}',
        "}}",
        '"}',
        '{"',
        '", "parameters": {"properties": {"',
        '": {"description": "',
        '", "type": "string',
        '", "type": "integer',
        '", "type": "number',
        '", "type": "boolean',
        '"], "type": "object"}}}\n\n',
        '"], "type": "string',
        '"}}, "type": "object"}}}\n\n',
        '", "parameters": {"properties": {}, "type": "object"}}}\n\n',
        '": {"enum": ["',
        '": {"default": ',
        '.call(query="',
        '")',
        "Environment: ipython\n",
        "Tools: ",
        "Cutting Knowledge Date: December 2023\nToday Date: ",
        "brave_search",
        "wolfram_alpha",
        "\n\n",
    ]
    categories = "\n".join(f"S{number}: {name}." for number, name in enumerate(GUARD_CATEGORIES, start=1))
    opened = guard_prompt_open("User").partition(header("user"))[2]
    before, _, after = opened.partition(categories)
    closing = guard_prompt_close("User").removesuffix("<|eot_id|>").rstrip()
    phrases += [
        before,
        opened.replace("'User'", "'Agent'").partition(categories)[0],
        categories,
        after,
        closing,
        closing.replace("LAST User", "LAST Agent"),
        "User: ",
        "Agent: ",
        "unsafe\nS",
    ]
    return phrases


def training_texts(documents: int, seed: int) -> list[str]:
    """Text to learn merges from: the training mix without its fixed phrases, and the words it draws from."""
    rng = random.Random(seed)
    remove = sorted([*SPECIAL_TOKENS, *phrase_tokens()], key=len, reverse=True)
    texts = []
    for _ in range(documents):
        tree = draw_tree(rng, Difficulty())
        text = tree.prefix + "".join(piece.text for branch in tree.branches for piece in branch)
        for fixed in remove:
            if len(fixed) > 4:
                text = text.replace(fixed, "\n")
        texts.append(text)
    words = word_lists()[0]
    texts += [" ".join(rng.sample(words, 300)) for _ in range(documents // 60)]
    texts += [" ".join(word.capitalize() for word in rng.sample(words, 300)) for _ in range(documents // 120)]
    texts += [" ".join(" ".join(entries) for entries in named_lists().values())] * 3
    return texts


def train_tokenizer(path: Path, documents: int = 6000, seed: int = 11) -> Tokenizer:
    """Learn the merges, add spaced words, phrases and special tokens, and write `tokenizer.json`."""
    reserved = len(SPECIAL_TOKENS) + len(phrase_tokens()) + len(SPACED_WORDS) + 4
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(STRICT_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - reserved,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        max_token_length=12,
    )
    learner.train_from_iterator(training_texts(documents, seed), trainer)
    learned = json.loads(learner.to_str())["model"]
    vocabulary: dict[str, int] = learned["vocab"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in learned["merges"]]
    for word in SPACED_WORDS:
        if word in vocabulary and f"Ġ{word}" not in vocabulary:
            vocabulary[f"Ġ{word}"] = len(vocabulary)
            merges.append(("Ġ", word))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(phrase, special=False, normalized=False) for phrase in phrase_tokens()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))


def padded_vocabulary_size(tokenizer: Tokenizer) -> int:
    """The embedding's rows: a multiple of 64."""
    return (tokenizer.get_vocab_size() + 63) // 64 * 64
