"""``questions`` on the command line."""

from __future__ import annotations

from peft_lab.interview.bank import all_questions, select
from peft_lab.interview.question import topics
from tests.cli.conftest import Run


def test_the_contracts_fields(run: Run) -> None:
    rows = run("questions", "--topic", "lora", "--json").document
    assert [row["id"] for row in rows] == [question.id for question in select(["lora"])]
    for row in rows:
        assert {"id", "topic", "level", "question", "computed", "answer", "sources"} <= set(row)
        assert isinstance(row["computed"], bool)
        assert row["sources"]
        assert "{{" not in row["question"] + row["answer"].replace("{{{", "")
    counted = next(row for row in rows if row["id"] == "lora-query-value")
    assert counted["computed"] is True
    assert counted["value"] == 4_587_520
    assert "4,587,520" in counted["answer"]


def test_all_of_them(run: Run) -> None:
    wanted = ",".join(
        topic for topic in topics() if topic != "quantisation"
    )  # which needs torch for one answer
    rows = run("questions", "--topic", wanted, "--json").document
    assert len(rows) == sum(question.topic != "quantisation" for question in all_questions().values())
    assert sum(row["computed"] for row in rows) >= 60


def test_topic_level_and_model(run: Run) -> None:
    rows = run(
        "questions",
        "--topic",
        "ia3",
        "--topic",
        "bitfit",
        "--level",
        "basic",
        "--model",
        "bert-base",
        "--json",
    ).document
    assert {row["topic"] for row in rows} == {"ia3", "bitfit"}
    assert {row["level"] for row in rows} == {"basic"}
    models = {row["id"]: row["model"] for row in rows}
    assert models["ia3-vectors"] == "bert-base"
    assert models["bitfit-none"] == "llama-3.2-3b", "a question that does not fit keeps its own model"
    assert models["ia3-start"] is None
    vectors = next(row for row in rows if row["id"] == "ia3-vectors")
    assert vectors["value"] == 12 * (768 + 768 + 3072)
    assert "BERT-base" in vectors["question"]


def test_options_are_part_of_the_question(run: Run) -> None:
    rows = run("questions", "--topic", "ia3", "--level", "basic", "--json").document
    choice = next(row for row in rows if row["id"] == "ia3-start")
    assert "b) At one" in choice["question"]
    assert choice["computed"] is False


def test_the_table(run: Run) -> None:
    shown = run("questions", "--topic", "prompt", "--level", "basic").stdout
    assert "61,440 parameters" in shown
    assert "4 questions, 2 answers computed" in shown


def test_bad_input(run: Run) -> None:
    assert "Did you mean 'ia3'" in run("questions", "--topic", "ia4").refused()
    assert "level" in run("questions", "--level", "expert").refused()
    assert "nope" in run("questions", "--model", "nope").refused()
