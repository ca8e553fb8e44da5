"""The part of the memory contract that is about finding chunks by their words."""

from pathlib import Path

import pytest

from llama_stack.api.chunk_index import BankPlace, ChunkIndex
from llama_stack.api.filters import Comparison, matches
from llama_stack.errors import InvalidRequest
from llama_stack.testing.memory_contract_filters import few_filters, varied_metadata
from llama_stack.testing.memory_contract_ground import OpensIndexes, chunk, ids, random_rows

SENTENCES = (
    ("en", "The river runs through the northern valley.", ("running", "valleys", "RIVER")),
    ("de", "Die alten Häuser stehen am Hafen.", ("Haus", "Häfen", "häuser")),
    ("fr", "Les chevaux mangeaient dans la prairie près du château.", ("cheval", "manger", "prairies", "chateau")),
    ("es", "Los niños estaban corriendo por las montañas.", ("correr", "niño", "montaña")),
    ("it", "I gatti dormivano sulle sedie della cucina.", ("gatto", "dormire", "sedia")),
    ("pt", "As crianças estavam brincando nos parques.", ("brincar", "criança", "parque")),
    ("hi", "पुस्तकालय में बहुत सी किताबें हैं।", ("किताब", "पुस्तकालय")),
    ("th", "ฐานข้อมูลเก็บข้อมูลของลูกค้าไว้", ("ข้อมูล", "ลูกค้า")),
    ("zh", "向量数据库保存文档的嵌入。", ("数据库", "向量", "文档")),
    ("ja", "全文検索エンジンは文書を素早く見つけます。", ("検索", "エンジン", "文書")),
    ("ko", "한국어문서를 검색합니다.", ("검색", "문서")),
)
"""Language, a sentence, and other forms of its words; none of them is in another sentence."""

ODD_QUERIES = (
    "",
    " ",
    "?!... --- ***",
    '"',
    "'",
    '"unclosed',
    'it\'s 100% "sure"',
    "river AND",
    "NOT river",
    "OR",
    "NEAR(river valley, 2)",
    "river*",
    "*",
    "content:river",
    "^river + valley - north",
    "(((",
    "{river}",
    "river & valley | !north <-> west",
    "\\",
    "%_",
    "'; DROP TABLE chunks; --",
    "$where",
    "\U0001f999",
    "\u200b\u200d\ufeff",
    "river\tvalley\nnorth",
    "river " * 2_000,
    "r" * 10_000,
    " ".join(f"word{number}" for number in range(1_500)),
)


class KeywordContract(OpensIndexes):
    """Skipped as a whole where the backend says it cannot search by words."""

    async def _bank_of_sentences(self, index: ChunkIndex) -> BankPlace:
        if not index.abilities().keyword:
            pytest.skip("this backend does not search by words")
        bank = self.place()
        await index.create_bank(bank)
        chunks = [chunk(language, 0, text, language=language) for language, text, _ in SENTENCES]
        await index.write_chunks(bank, chunks, random_rows(len(chunks)))
        return bank

    @pytest.mark.parametrize(("language", "words"), [(language, words) for language, _, words in SENTENCES])
    async def test_other_forms_of_a_word_are_found(self, language: str, words: tuple[str, ...], tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            bank = await self._bank_of_sentences(index)
            for word in words:
                found = await index.search_keyword(bank, word, 5)
                assert ids(found)[:1] == [f"{language}-0000"], f"{word!r} is not found in {language}"
                assert found[0].score > 0

    async def test_a_word_that_no_chunk_has_finds_nothing(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            bank = await self._bank_of_sentences(index)
            assert await index.search_keyword(bank, "xylophone", 5) == []

    @pytest.mark.parametrize("query", ODD_QUERIES, ids=lambda query: repr(query[:20]))
    async def test_an_odd_query_is_a_query_like_any_other(self, query: str, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            bank = await self._bank_of_sentences(index)
            found = await index.search_keyword(bank, query, 5)
            # Operators are words here: whoever asks with a river finds the river, however it is dressed.
            assert ("en-0000" in ids(found)) == ("river" in query)

    async def test_more_and_rarer_words_in_common_rank_higher(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            bank = await self._bank_of_sentences(index)
            texts = ["common words about the weather today"] * 6
            texts += ["common words about a zeppelin today", "common words about weather, a zeppelin and a harbour"]
            chunks = [chunk("ranked", position, text, language="en") for position, text in enumerate(texts)]
            await index.write_chunks(bank, chunks, random_rows(len(chunks)))
            found = await index.search_keyword(bank, "zeppelin harbour weather", 20)
            assert ids(found)[:2] == ["ranked-0007", "ranked-0006"]
            scores = [one.score for one in found]
            assert scores == sorted(scores, reverse=True)
            assert len(found) == len(texts)

    async def test_equal_keyword_scores_come_in_the_order_of_chunk_ids(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            bank = await self._bank_of_sentences(index)
            names = ["b", "A", "c", "a", "B", "é", "10", "9"]
            chunks = [chunk(name, 0, "the same zeppelin", language="en") for name in names]
            await index.write_chunks(bank, chunks, random_rows(len(chunks)))
            expected = sorted(one.chunk_id for one in chunks)
            for limit in (len(chunks), 3):
                assert ids(await index.search_keyword(bank, "zeppelin", limit)) == expected[:limit]

    async def test_filters_hold_for_words_too(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            bank = await self._bank_of_sentences(index)
            chunks = [
                chunk(f"m{number:03}", 0, "one zeppelin", language="en", metadata=metadata)
                for number, metadata in enumerate(varied_metadata())
            ]
            await index.write_chunks(bank, chunks, random_rows(len(chunks)))
            for where in few_filters():
                found = await index.search_keyword(bank, "zeppelin", len(chunks), where)
                assert set(ids(found)) == {one.chunk_id for one in chunks if matches(where, one.metadata)}, where

    async def test_a_selective_filter_leaves_enough_to_find(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            bank = await self._bank_of_sentences(index)
            chunks = [
                # The wanted ones are the worst hits, so cutting off before filtering loses them.
                chunk(f"d{number:04}", 0, "zeppelin" + " filler words" * (20 * rare), metadata={"rare": rare})
                for number in range(400)
                for rare in [number % 80 == 3]
            ]
            await index.write_chunks(bank, chunks, random_rows(len(chunks)))
            where = Comparison(type="eq", key="rare", value=True)
            expected = [f"d{number:04}-0000" for number in range(3, 400, 80)]
            assert ids(await index.search_keyword(bank, "zeppelin", 5, where)) == expected

    async def test_words_of_deleted_and_replaced_chunks_are_gone(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            bank = await self._bank_of_sentences(index)
            await index.write_chunks(bank, [chunk("en", 0, "A lake.", language="en")], random_rows(1))
            assert await index.search_keyword(bank, "river", 5) == []
            assert ids(await index.search_keyword(bank, "lakes", 5)) == ["en-0000"]
            await index.delete_documents(bank, ["en", "de"])
            for word in ("river", "lake", "Haus"):
                assert await index.search_keyword(bank, word, 5) == []
            assert ids(await index.search_keyword(bank, "gatto", 5)) == ["it-0000"]

    async def test_a_bank_without_vectors_is_searched_by_words(self, tmp_path: Path) -> None:
        bank = self.place(dimension=0)
        async with self.opened(tmp_path) as index:
            if not index.abilities().keyword:
                pytest.skip("this backend does not search by words")
            await index.create_bank(bank)
            await index.write_chunks(bank, [chunk("a", 0, "a river"), chunk("b", 0, "a lake")], None)
            with pytest.raises(InvalidRequest):
                await index.write_chunks(bank, [chunk("c")], random_rows(1))
            with pytest.raises(InvalidRequest):
                await index.search_vector(bank, random_rows(1).row_bytes(0), 5)
        async with self.opened(tmp_path) as index:
            assert ids(await index.search_keyword(bank, "rivers", 5)) == ["a-0000"]
            assert ids(await index.list_chunks(bank)) == ["a-0000", "b-0000"]

    async def test_languages_are_found_again_after_a_restart(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            bank = await self._bank_of_sentences(index)
        async with self.opened(tmp_path) as index:
            for language, _, words in SENTENCES:
                assert ids(await index.search_keyword(bank, words[0], 5))[:1] == [f"{language}-0000"]
