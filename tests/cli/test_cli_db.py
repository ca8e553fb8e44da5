"""`llama db`: the schema's version, upgraded and taken back."""

import json
from pathlib import Path

from tests.cli.running import Llama, assert_refused


def test_a_new_database_is_upgraded_and_taken_back(stack_home: Path, llama: Llama) -> None:
    before = llama("db", "status", "--json")
    assert before.returncode == 1
    status = json.loads(before.stdout)
    assert (status["database"], status["current"]) == (str(stack_home / "stack.db"), 0)
    assert len(status["pending"]) == status["latest"] >= 1

    assert json.loads(llama("db", "upgrade", "--json").stdout)["done"]
    after = llama("db", "status", "--json")
    assert after.returncode == 0
    assert json.loads(after.stdout)["pending"] == []
    assert llama("db", "upgrade").stdout == "The schema is up to date.\n"

    assert_refused(llama("db", "rollback", "--to", "0"), "--yes")
    assert llama("db", "rollback", "--to", "0", "--yes").returncode == 0
    assert json.loads(llama("db", "status", "--json").stdout)["current"] == 0


def test_the_database_of_a_distribution_is_meant(tmp_path: Path, llama: Llama) -> None:
    file = tmp_path / "mine.yaml"
    database = tmp_path / "mine.db"
    file.write_text(f"version: 1\nname: mine\nstorage: {{url: 'sqlite:///{database}'}}\nproviders: {{}}\n")
    assert json.loads(llama("db", "status", "--distribution", str(file), "--json").stdout)["database"] == str(database)


def test_a_url_that_is_no_database_is_refused_without_its_password(llama: Llama) -> None:
    refused = llama("db", "status", "--url", "mysql://ann:sesame@host/stack")
    assert_refused(refused, "mysql", "sqlite:///")
    assert "sesame" not in refused.stderr


def test_a_database_that_cannot_be_reached_is_named_without_its_password(llama: Llama) -> None:
    refused = llama("db", "status", "--url", "postgresql://ann:sesame@127.0.0.1:9/stack")
    assert_refused(refused, "127.0.0.1:9")
    assert "sesame" not in refused.stderr
