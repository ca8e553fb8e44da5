"""Which family a name belongs to, and what each family's engine must know."""

import pytest

from llama_stack.wire.llama_prompts.families import (
    LlamaFamily,
    default_tool_format,
    family_for,
    preserved_tokens,
    reads_images,
    stop_tokens,
)

L31, L32, L33, L4 = LlamaFamily.LLAMA_3_1, LlamaFamily.LLAMA_3_2, LlamaFamily.LLAMA_3_3, LlamaFamily.LLAMA_4
VISION = LlamaFamily.LLAMA_3_2_VISION


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Llama-3.2-3B-Instruct", L32),
        ("meta-llama/Llama-3.3-70B-Instruct", L33),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", L31),
        ("Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf", L31),
        ("Llama3.1-405B-Instruct:bf16-mp16", L31),
        ("llama3.1:8b", L31),
        ("llama3.2:1b", L32),
        ("llama-3.3-70b-versatile", L33),
        ("accounts/fireworks/models/llama-v3p1-8b-instruct", L31),
        ("meta.llama3-1-8b-instruct-v1:0", L31),
        ("us.meta.llama3-3-70b-instruct-v1:0", L33),
        ("Meta Llama 3.1 8B Instruct", L31),
        ("Llama_3_2_1B", L32),
        ("Llama-3.2-11B-Vision-Instruct", VISION),
        ("llama3.2-vision:90b", VISION),
        ("Llama-4-Scout-17B-16E-Instruct", L4),
        ("llama4:maverick", L4),
        ("llama4", L4),
        ("Llama-Guard-3-8B", L31),
        ("Llama-Guard-3-1B", L32),
        ("Llama-Guard-3-11B-Vision", VISION),
        ("llama-guard3:8b", L31),
        ("Llama-Guard-4-12B", L4),
        ("llama-micro", L31),
        ("Meta-Llama-3-8B-Instruct", None),
        ("llama-2-7b-chat", None),
        ("llama-30b", None),
        ("qwen3-4b", None),
        ("ollama", None),
        ("", None),
    ],
)
def test_names(name: str, family: LlamaFamily | None) -> None:
    assert family_for(name) == family


def test_the_first_name_that_says_so_decides() -> None:
    assert family_for("my-model", "llama4", "Llama-3.1-8B") == L4
    assert family_for() is None


def test_a_template_of_another_format_overrules_the_name() -> None:
    chatml = "{% for m in messages %}<|im_start|>{{ m.role }}{% endfor %}"
    llama = "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>' }}"
    assert family_for("Hermes-3-Llama-3.1-8B", chat_template=chatml) is None
    assert family_for("Llama-3.1-8B-Instruct", chat_template=llama) == L31
    assert family_for("Llama-4-Scout", chat_template=llama) is None


def test_what_the_engine_needs() -> None:
    assert stop_tokens(L31) == ["<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"]
    assert stop_tokens(L4) == ["<|eot|>", "<|eom|>", "<|end_of_text|>"]
    assert preserved_tokens(L33) == ["<|python_tag|>", "<|eom_id|>", "<|eot_id|>"]
    assert preserved_tokens(L4) == ["<|python_start|>", "<|python_end|>", "<|eom|>", "<|eot|>"]
    assert {family: default_tool_format(family) for family in LlamaFamily} == {
        L31: "json",
        L32: "python_list",
        VISION: "json",
        L33: "json",
        L4: "python_list",
    }
    assert [family for family in LlamaFamily if reads_images(family)] == [VISION, L4]
