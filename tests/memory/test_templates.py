"""A caller's template is a stranger's program: it gets data, limits and nothing else."""

import pytest

from llama_stack.api.common import Caller
from llama_stack.api.memory import Rewriting
from llama_stack.api.messages import AssistantMessage, Message, UserMessage, text_of
from llama_stack.errors import InvalidRequest
from llama_stack.memory.rewriting import rewritten
from llama_stack.memory.templates import render
from llama_stack.testing.scripted import ScriptedInference
from tests.agents.scripts import chats, says

CALLER = Caller(owner="alice")
TALK: list[Message] = [
    UserMessage(content="I have a Tarn 2 tent."),
    AssistantMessage(content="A fine tent."),
    UserMessage(content="How heavy is it?"),
]


async def test_a_template_sees_its_values() -> None:
    assert (
        await render("{% for m in messages %}{{ m.role }} {% endfor %}", {"messages": [{"role": "a"}]}, param="t")
        == "a "
    )


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'xxxxxxxxxx' }}{% endfor %}",
        "{% for a in messages %}{% for b in messages %}x{% endfor %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ 9 ** 9999999 }}",
        "{% set a = 'xx' %}{{ a ~ a }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ query | center(1000000000) }}",
        "{{ lipsum() }}",
        "{{ missing }}",
        "{% if %}",
        "{{ 1 / 0 }}",
        "{% include 'etc' %}",
        "x" * 30_000,
        "{{ lipsum }}",
        "{{ query.upper | lower }}",
        "{{ [query, query] }}",
        "{{ query" + "|upper" * 3_000 + " }}",
        "{{ " + "(" * 3_000 + "query" + ")" * 3_000 + " }}",
    ],
)
async def test_what_a_template_may_not_is_refused_by_name(template: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await render(template, {"messages": [], "query": "q"}, param="template")
    assert refused.value.param == "template"


@pytest.mark.parametrize(
    "template",
    [
        "{{ query|join(query)|join(query)|join(query)|length }}",  # 1000 characters to the fourth
        "{{ query|join(query)|length }}",
        "{{ query" + "|tojson" * 30 + "|length }}",  # doubles what it escapes, each time
        "{{ messages|map('join', query)|join|length }}",
    ],
)
async def test_filters_do_not_multiply_a_text_without_bound(template: str) -> None:
    query = '"' * 1_000
    with pytest.raises(InvalidRequest, match="more than 200000 characters"):
        await render(template, {"messages": [query, query], "query": query}, param="template")


async def test_filters_do_what_they_do_in_jinja() -> None:
    template = (
        "{{ messages|map(attribute='role')|join(', ') }} {{ messages|join('|', 'role') }} {{ query|upper|tojson }}"
    )
    values = {"messages": [{"role": "a"}, {"role": "b"}], "query": "q"}
    assert await render(template, values, param="t") == 'a, b a|b "Q"'


async def test_a_model_writes_the_query_from_the_conversation() -> None:
    script = ScriptedInference(says('"weight of the Tarn 2 tent"'))
    query = await rewritten(Rewriting(model="scripted"), "How heavy is it?", script, CALLER, TALK)
    assert query == "weight of the Tarn 2 tent"
    asked = text_of(chats(script)[0].messages[0].content)
    assert "user: I have a Tarn 2 tent." in asked
    assert "assistant: A fine tent." in asked


async def test_a_template_alone_needs_no_model() -> None:
    template = "{{ messages | map(attribute='content') | join(' ') }}"
    query = await rewritten(Rewriting(template=template), "ignored", ScriptedInference(), CALLER, TALK)
    assert query == "I have a Tarn 2 tent. A fine tent. How heavy is it?"


async def test_a_model_that_says_nothing_leaves_the_question() -> None:
    script = ScriptedInference(says("  "))
    assert await rewritten(Rewriting(model="scripted"), "the question", script, CALLER) == "the question"


async def test_rewriting_by_nobody_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="`model`, a `template` or both"):
        await rewritten(Rewriting(), "q", ScriptedInference(), CALLER)
