"""Models that load, make room for each other, or cannot be loaded: with llama.cpp's reason and what to do."""

import asyncio
import struct
from pathlib import Path

import pytest
from pydantic import ValidationError

from llama_stack.api.answers import collect
from llama_stack.api.common import HealthStatus
from llama_stack.api.inference import EmbeddingRequest
from llama_stack.api.resources import ModelType
from llama_stack.errors import ConfigError, ProviderUnavailable, UnsupportedParameter
from llama_stack.weights import find_weights
from llama_stack_providers.inline._llama_cpp.settings import Config
from llama_stack_providers.inline.llama_cpp import LlamaCppInference
from tests.providers.inline.llama_cpp.conftest import CALLER, ask, opened, resource

pytestmark = pytest.mark.engine


def gguf(path: Path, values: dict[str, int | str], tensors: int = 0) -> Path:
    """A GGUF file of metadata alone, as its specification writes it."""
    content = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(values))
    for key, value in values.items():
        content += struct.pack("<Q", len(key)) + key.encode()
        if isinstance(value, int):
            content += struct.pack("<II", 4, value)
        else:
            content += struct.pack("<IQ", 8, len(value)) + value.encode()
    path.write_bytes(content)
    return path


def beginning_of(file: Path, part: float, folder: Path) -> Path:
    content = file.read_bytes()
    cut = folder / "cut.gguf"
    cut.write_bytes(content[: int(len(content) * part)])
    return cut


async def chats(inference: LlamaCppInference, model: str) -> bool:
    return bool((await collect(inference.stream_chat(ask(model, "hello", max_tokens=1), CALLER))).choices)


async def test_a_listed_model_is_described_by_its_file(model: str, minilm: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as inference:
        micro = await inference.add_model(resource(model))
        embedding = await inference.add_model(resource(minilm, ModelType.EMBEDDING))
        assert micro.context_length is not None and micro.context_length >= 2048
        assert (embedding.context_length, embedding.embedding_dimension) == (512, 384)
        assert inference.models.find(model).engine is None
        able = inference.capabilities(model)
        assert (able.chat, able.tools, able.grammar, able.embedding, able.vision) == (True, True, True, False, False)
        able = inference.capabilities(minilm)
        assert (able.chat, able.completion, able.tools, able.embedding) == (False, False, False, True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no file"),
        (b"", "has only 0 bytes"),
        (b"<html>Not found</html>" * 9, "begins with b'<htm'"),
        (b"GGUF" + bytes(200), "GGUF version 0"),
        (b"GGUF\3\0\0\0" + b"\xff" * 200, "cut short or damaged"),
    ],
    ids=["missing", "empty", "a web page", "version", "garbage"],
)
async def test_a_file_that_is_no_model_is_a_wrong_setting(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    async with opened(tmp_path) as inference:
        with pytest.raises(ConfigError, match=reason):
            await inference.add_model(resource(str(path)))


@pytest.mark.parametrize("part", [0.01, 0.5, 0.97])
async def test_a_file_cut_short_is_seen_before_it_is_loaded(model: str, tmp_path: Path, part: float) -> None:
    path = beginning_of(Path(model), part, tmp_path)
    async with opened(tmp_path) as inference:
        with pytest.raises(ConfigError, match="cut short"):
            await inference.add_model(resource(str(path)))


async def test_a_model_in_several_files_needs_them_all(tmp_path: Path) -> None:
    values: dict[str, int | str] = {"general.architecture": "llama", "split.count": 2}
    first = gguf(tmp_path / "big-00001-of-00002.gguf", values)
    second = tmp_path / "big-00002-of-00002.gguf"
    async with opened(tmp_path) as inference:
        with pytest.raises(ConfigError, match=r"big-00002-of-00002\.gguf is not beside it"):
            await inference.add_model(resource(str(first)))
        gguf(second, values)
        await inference.add_model(resource(str(first)))
        header = inference.models.find(str(first)).header
        assert header is not None and header.size_bytes == sum(map(size_of, (first, second)))
        with pytest.raises(ConfigError, match="name the first"):
            await inference.add_model(resource(str(second)))


def size_of(path: Path) -> int:
    return path.stat().st_size


async def test_a_load_that_fails_gives_llama_cpps_reason(tmp_path: Path) -> None:
    """Trap: the exception only says that loading failed; the reason is on standard error."""
    values: dict[str, int | str] = {"general.architecture": "unheard-of", "tokenizer.chat_template": "{{ messages }}"}
    path = gguf(tmp_path / "odd.gguf", values)
    async with opened(tmp_path, resource(str(path))) as inference:
        with pytest.raises(ProviderUnavailable, match=r"cannot be loaded: .*unknown model architecture: 'unheard-of'"):
            await chats(inference, str(path))
        health = await inference.health()
        assert health.status is HealthStatus.DEGRADED
        assert "unheard-of" in (health.message or "")


async def test_a_missing_engine_says_what_to_install(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('no engine here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with opened(tmp_path, resource(model)) as inference:
        with pytest.raises(ProviderUnavailable, match=r"no engine here.*pip install 'xllamacpp.*use a remote provider"):
            await chats(inference, model)


async def test_a_model_that_fits_no_memory_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    """Trap: a window of 10**9 tokens never finishes loading."""
    huge: dict[str, int | str] = {
        "general.architecture": "llama",
        "llama.context_length": 10**9,
        "llama.embedding_length": 8192,
        "llama.block_count": 100,
        "llama.attention.head_count": 64,
        "tokenizer.chat_template": "<|start_header_id|><|end_header_id|><|eot_id|>ipython",
    }
    path = gguf(tmp_path / "huge.gguf", huge)
    async with opened(tmp_path, resource(str(path), context_length=10**9)) as inference:
        with pytest.raises(ProviderUnavailable, match=r"needs about \d+ MiB .* lower context_length"):
            await chats(inference, str(path))


async def test_a_window_beyond_the_training_is_a_wrong_setting(model: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as inference:
        with pytest.raises(ConfigError, match=r"1000000000 is more than the \d+ tokens"):
            await inference.add_model(resource(model, context_length=10**9))
    async with opened(tmp_path, context_length=10**9) as inference:
        with pytest.raises(ConfigError, match="Set context_length to at most"):
            await inference.add_model(resource(model))


@pytest.mark.parametrize("settings", [{"parallel_slots": 0}, {"threads": 0}, {"context_length": 1}, {"unknown": 1}])
def test_settings_that_would_hang_the_engine_are_refused(settings: dict[str, int]) -> None:
    """Trap: with no slots llama.cpp's constructor never returns."""
    with pytest.raises(ValidationError):
        Config.model_validate(settings)


@pytest.mark.parametrize("metadata", [{"parallel_slots": 0}, {"temperature": -1}, {"parallel_slots": "many"}])
async def test_wrong_metadata_of_a_model_is_a_wrong_setting(
    model: str, tmp_path: Path, metadata: dict[str, object]
) -> None:
    async with opened(tmp_path) as inference:
        with pytest.raises(ConfigError, match=f"metadata.{next(iter(metadata))}"):
            await inference.add_model(resource(model, metadata=metadata))


async def test_a_model_declared_as_another_kind_is_a_wrong_setting(model: str, minilm: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as inference:
        with pytest.raises(ConfigError, match="Set model_type to llm"):
            await inference.add_model(resource(model, ModelType.EMBEDDING))
        with pytest.raises(ConfigError, match="Set embedding_dimension to 384"):
            await inference.add_model(resource(minilm, ModelType.EMBEDDING, embedding_dimension=768))


async def test_a_model_of_the_hub_that_is_not_downloaded_says_how(tmp_path: Path) -> None:
    name = "hf:acme/models/tiny.gguf"
    async with opened(tmp_path, resource(name)) as inference:
        with pytest.raises(ProviderUnavailable, match=f"run: llama model download {name}"):
            await chats(inference, name)


async def test_a_model_of_the_hub_is_served_once_it_is_there(model: str, tmp_path: Path) -> None:
    name = "hf:acme/models/tiny.gguf"
    async with opened(tmp_path, resource(name)) as inference:
        place = tmp_path / "models/acme/models/tiny.gguf"
        place.parent.mkdir(parents=True)
        place.symlink_to(model)
        assert await chats(inference, name)


async def test_what_a_model_of_the_hub_cannot_do_is_found_out_when_it_is_there(minilm: str, tmp_path: Path) -> None:
    name = "hf:acme/models/tiny.gguf"
    async with opened(tmp_path, resource(name)) as inference:
        place = tmp_path / "models/acme/models/tiny.gguf"
        place.parent.mkdir(parents=True)
        place.symlink_to(find_weights(minilm))
        with pytest.raises(UnsupportedParameter, match="does not chat"):
            await chats(inference, name)
        assert not inference.capabilities(name).chat


async def test_loading_has_a_time_limit(model: str, tmp_path: Path) -> None:
    async with opened(tmp_path, resource(model), start_timeout_s=0.001) as inference:
        with pytest.raises(ProviderUnavailable, match=r"did not load within 0\.001 s; raise start_timeout_s"):
            await chats(inference, model)


async def test_a_load_nobody_waits_for_any_more_is_given_up(
    model: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = tmp_path_factory.mktemp("s")
    monkeypatch.setattr("tempfile.tempdir", str(sockets))
    async with opened(tmp_path, resource(model)) as inference:
        served = inference.models.find(model)
        for passes in (0, 1, 5):  # how far the load has come when it is cancelled
            first = asyncio.create_task(chats(inference, model))
            async with asyncio.timeout(60):
                while not served.loading.locked():
                    await asyncio.to_thread(lambda: None)
                for _ in range(passes):
                    await asyncio.to_thread(lambda: None)
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
        assert await chats(inference, model)
        assert len(list_of(sockets)) == 1
    assert list_of(sockets) == []


def list_of(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_the_model_unused_longest_makes_room(model: str, minilm: str, tmp_path: Path) -> None:
    models = [resource(model), resource(minilm, ModelType.EMBEDDING)]
    async with opened(tmp_path, *models, max_loaded_models=1) as inference:
        assert await chats(inference, model)
        first = inference.models.find(model).engine
        assert first is not None
        await inference.embed(EmbeddingRequest(model=minilm, inputs=["x"]), CALLER)
        assert inference.models.find(model).engine is None
        assert not first.alive
        assert await chats(inference, model)


async def test_a_model_at_work_is_never_unloaded(model: str, minilm: str, tmp_path: Path) -> None:
    models = [resource(model), resource(minilm, ModelType.EMBEDDING)]
    async with opened(tmp_path, *models, max_loaded_models=1) as inference:
        async with inference.models.use(model) as engine:
            waiting = asyncio.create_task(inference.embed(EmbeddingRequest(model=minilm, inputs=["x"]), CALLER))
            assert await chats(inference, model)
            assert engine.alive and not waiting.done()
        async with asyncio.timeout(60):
            assert len((await waiting).vectors) == 1


async def test_an_idle_model_is_unloaded_and_comes_back(model: str, tmp_path: Path) -> None:
    async with opened(tmp_path, resource(model), idle_unload_s=0.05) as inference:
        assert await chats(inference, model)
        engine = inference.models.find(model).engine
        assert engine is not None
        async with asyncio.timeout(60):
            await engine.worker.ended.wait()
        assert await chats(inference, model)


async def test_a_preloaded_model_is_there_before_its_first_use(model: str, tmp_path: Path) -> None:
    async with opened(tmp_path, resource(model), preload=[model]) as inference:
        async with asyncio.timeout(60):
            async with inference.models.use(model):
                pass
        assert inference.models.find(model).engine is not None


async def test_two_first_requests_load_a_model_once(model: str, tmp_path: Path) -> None:
    async with opened(tmp_path, resource(model)) as inference:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(chats(inference, model)) for _ in range(3)]
        assert all(task.result() for task in tasks)
