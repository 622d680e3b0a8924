"""What users have is read in full, or refused with its place, or dropped and counted."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keel.data.formats import (
    Remark,
    Rows,
    read_comparisons,
    read_demonstrations,
    read_preferences,
    read_prompts,
    read_rankings,
)
from keel.errors import UserError
from keel.types import Demonstration, Message, Preference, Prompt, Ranking

USER, BOT = Message("user", "Hi"), Message("assistant", "Hello")
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
HH = "\n\nHuman: Where is\nParis?\n\nAssistant: In France.\n\nHuman: And Rome?\n\nAssistant: "
ASKED = (Message("user", "Where is\nParis?"), Message("assistant", "In France."), Message("user", "And Rome?"))


def said(text: str) -> tuple[Message, ...]:
    return (Message("assistant", text),)


def asked(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def jsonl(folder: Path, *rows: Any, name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


# --- the shapes of a row


@pytest.mark.parametrize(
    "row",
    [
        {"messages": MESSAGES},
        {"messages": json.dumps(MESSAGES)},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, MESSAGES[1] | {"weight": 1}]},
        {"messages": "\n\nHuman: Hi\n\nAssistant: Hello"},
        {"prompt": "Hi", "completion": "Hello"},
        {"prompt": "Hi", "response": "Hello", "messages": None},
        {"prompt": MESSAGES[:1], "completion": MESSAGES[1:]},
        {"prompt": "Hi", "completion": MESSAGES},
        {"prompt": "\n\nHuman: Hi\n\nAssistant:", "completion": " Hello"},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"instruction": "Hi", "input": " \n", "output": "Hello"},
        {"question": "Hi", "answer": "Hello"},
    ],
)
def test_demonstration(tmp_path: Path, row: dict[str, Any]) -> None:
    rows = read_demonstrations(jsonl(tmp_path, row))
    assert rows.items == (Demonstration((USER, BOT)),)
    assert (rows.read, rows.dropped, rows.notes) == (1, (), ())


def test_demonstration_with_input_and_system(tmp_path: Path) -> None:
    source = jsonl(tmp_path, {"system": "Brief.", "instruction": "Translate.", "input": "chat", "output": "cat"})
    system = Message("system", "Brief.")
    assert read_demonstrations(source).items == (
        Demonstration((system, Message("user", "Translate.\n\nchat"), Message("assistant", "cat"))),
    )
    source = jsonl(tmp_path, {"system": "Brief.", "messages": [{"role": "system", "content": "Brief."}, *MESSAGES]})
    assert read_demonstrations(source).items == (Demonstration((system, USER, BOT)),)


def test_text_is_kept_to_the_letter(tmp_path: Path) -> None:
    source = jsonl(tmp_path, {"prompt": " a\u2028b\n", "completion": "\tc  "})
    assert read_demonstrations(source).items == (Demonstration((*asked(" a\u2028b\n"), *said("\tc  "))),)


def test_text_that_is_a_json_list_stays_a_text(tmp_path: Path) -> None:
    source = jsonl(tmp_path, {"prompt": "[1, 2]", "completion": '[{"name": "x"}]'}, {"prompt": "[]", "completion": "["})
    assert read_demonstrations(source).items == (
        Demonstration((*asked("[1, 2]"), *said('[{"name": "x"}]'))),
        Demonstration((*asked("[]"), *said("["))),
    )


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "good", "rejected": "bad"},
        {"prompt": MESSAGES[:1], "chosen": [{"role": "assistant", "content": "good"}], "rejected": "bad"},
        {
            "prompt": "Hi",
            "chosen": [MESSAGES[0], {"role": "assistant", "content": "good"}],
            "rejected": [MESSAGES[0], {"role": "assistant", "content": "bad"}],
            "messages": MESSAGES,
        },
        {
            "chosen": [MESSAGES[0], {"role": "assistant", "content": "good"}],
            "rejected": [MESSAGES[0], {"role": "assistant", "content": "bad"}],
        },
        {"chosen": "\n\nHuman: Hi\n\nAssistant: good", "rejected": "\n\nHuman: Hi\n\nAssistant: bad"},
        {"question": "Hi", "chosen": "good", "rejected": "bad", "probability": 1, "margin": None},
    ],
)
def test_preference(tmp_path: Path, row: dict[str, Any]) -> None:
    assert read_preferences(jsonl(tmp_path, row)).items == (Preference((USER,), said("good"), said("bad")),)


def test_transcripts_share_all_but_the_last_turn(tmp_path: Path) -> None:
    source = jsonl(tmp_path, {"chosen": HH + "In Italy.", "rejected": HH + "Ask Human: me.\n"})
    assert read_preferences(source).items == (Preference(ASKED, said("In Italy."), said("Ask Human: me.")),)


def test_conversations_may_part_earlier_and_go_on(tmp_path: Path) -> None:
    more = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    source = jsonl(tmp_path, {"chosen": MESSAGES, "rejected": [*MESSAGES, *more]})
    both = (Message("user", "Why?"), Message("assistant", "So."))
    assert read_preferences(source).items == (Preference((USER,), (BOT,), (BOT, *both)),)


def test_probability_and_margin(tmp_path: Path) -> None:
    pair = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    rows = read_preferences(jsonl(tmp_path, pair | {"probability": 0.25, "margin": "1.5"}, pair | {"margin": ""}))
    assert [(item.probability, item.margin) for item in rows] == [(0.25, 1.5), (1.0, 0.0)]


@pytest.mark.parametrize(
    ("order", "best_first"),
    [
        ({}, "abc"),
        ({"ranks": [3, 1, 2]}, "bca"),
        ({"scores": [0.1, 9, 0.5]}, "bca"),
        ({"scores": "[1, 3, 2]"}, "bca"),
    ],
)
def test_ranking(tmp_path: Path, order: dict[str, Any], best_first: str) -> None:
    rows = read_rankings(jsonl(tmp_path, {"prompt": "Hi", "completions": list("abc")} | order))
    assert rows.items == (Ranking((USER,), tuple(said(letter) for letter in best_first)),)
    assert rows.notes == ()


def test_answers_that_tie_leave_only_the_first(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "responses": ["a", "b", "c", "d"]}
    source = jsonl(tmp_path, row | {"ranks": [2, 1, 2, 1]}, row | {"scores": [1, 1, 1, 1]}, name="k.jsonl")
    rows = read_rankings(source)
    assert rows.items == (Ranking((USER,), (said("b"), said("a"))),)
    assert rows.notes == (Remark(f"{source}:1", "answer left out that ties with another"),) * 2
    assert rows.dropped == (Remark(f"{source}:2", "ranking with fewer than two distinct levels"),)
    assert "2 × answer left out that ties with another (first at" in rows.summary()


def test_repeated_answer_keeps_its_best_place(tmp_path: Path) -> None:
    rows = read_rankings(jsonl(tmp_path, {"prompt": "Hi", "completions": ["a", "b", "a"]}))
    assert rows.items == (Ranking((USER,), (said("a"), said("b"))),)
    assert len(rows.notes) == 1


def test_pairs_and_rankings_stand_in_one_file(tmp_path: Path) -> None:
    pair = {"prompt": "Hi", "chosen": "good", "rejected": "bad"}
    ranked = {"prompt": "Hi", "responses": ["b", "a"], "scores": [1, 2]}
    source = jsonl(tmp_path, pair, ranked, pair | {"responses": ["x", "y"]})
    rows = read_comparisons(source)
    assert rows.items == (
        Preference((USER,), said("good"), said("bad")),
        Ranking((USER,), (said("a"), said("b"))),
        Preference((USER,), said("good"), said("bad")),
    )
    assert rows.unused == ()


def test_the_first_rows_are_those_that_count_as_read(tmp_path: Path) -> None:
    rows = read_prompts(jsonl(tmp_path, *({"prompt": text} for text in ("a", " ", "b", "c"))))
    few = rows.first(2)
    assert [one.messages[0].content for one in few] == ["a", "b"]
    assert (few.read, len(few), len(few.dropped)) == (3, 2, 1)
    assert rows.first(None) == rows.first(9) == rows
    late = read_prompts(jsonl(tmp_path, *({"prompt": text} for text in ("a", "b", " ", " ", "c"))))
    assert [(late.first(limit).read, len(late.first(limit).dropped)) for limit in (1, 2, 3)] == [(1, 0), (2, 0), (5, 2)]
    made = Rows.made([1, 2], "nowhere")
    assert (made.items, made.read, made.dropped) == ((1, 2), 2, ())


def test_prompts_keep_the_other_columns(tmp_path: Path) -> None:
    rows = read_prompts(
        jsonl(
            tmp_path,
            {"prompt": "Hi", "answer": 42, "tags": ["x"]},
            {"id": 7, "question": "Hi", "answer": None},
            {"messages": MESSAGES, "level": 1},
            {"prompt": HH},
        )
    )
    assert rows.items == (
        Prompt("0", (USER,), {"answer": 42, "tags": ["x"]}),
        Prompt("7", (USER,), {"answer": None}),
        Prompt("2", (USER,), {"level": 1, "messages": MESSAGES}),
        Prompt("3", ASKED, {}),
    )
    assert [note.reason for note in rows.notes] == ["closing answer cut off"]
    assert rows.unused == ()


# --- what is dropped, and counted


@pytest.mark.parametrize(
    ("read", "row", "reason"),
    [
        (read_demonstrations, {"prompt": "Hi", "completion": " \n"}, "empty answer"),
        (read_demonstrations, {"prompt": "", "completion": "x"}, "empty prompt"),
        (read_demonstrations, {"messages": MESSAGES[::-1]}, "conversation that begins with the assistant"),
        (read_preferences, {"prompt": "Hi", "chosen": "a", "rejected": "a"}, "identical answers"),
        (read_preferences, {"prompt": " ", "chosen": "a", "rejected": "b"}, "empty prompt"),
        (read_preferences, {"chosen": MESSAGES, "rejected": MESSAGES}, "identical answers"),
        (
            read_preferences,
            {"chosen": MESSAGES, "rejected": [{"role": "user", "content": "Ho"}, MESSAGES[1]]},
            "two conversations that do not part at an assistant's turn",
        ),
        (
            read_preferences,
            {"chosen": MESSAGES[1:], "rejected": [{"role": "assistant", "content": "Ho"}]},
            "two conversations that do not part at an assistant's turn",
        ),
        (
            read_preferences,
            {"chosen": [*MESSAGES, MESSAGES[0]], "rejected": [*MESSAGES, {"role": "user", "content": "Ho"}]},
            "two conversations that do not part at an assistant's turn",
        ),
        (read_rankings, {"prompt": "Hi", "completions": ["a"]}, "ranking with fewer than two distinct levels"),
        (read_rankings, {"prompt": "", "completions": ["a", "b"]}, "empty prompt"),
        (read_prompts, {"prompt": "\n"}, "empty prompt"),
        (read_prompts, {"messages": MESSAGES[1:]}, "empty prompt"),
    ],
)
def test_rows_that_teach_nothing_are_counted(tmp_path: Path, read: Any, row: dict[str, Any], reason: str) -> None:
    good = {"prompt": "Hi", "completion": "a", "chosen": "a", "rejected": "b", "completions": ["a", "b"]}
    source = jsonl(tmp_path, good, row, row)
    rows = read(source)
    assert len(rows) == 1
    assert rows.read == 3
    assert rows.dropped == (Remark(f"{source}:2", reason), Remark(f"{source}:3", reason))
    assert f"3 rows read, 1 kept; dropped 2 × {reason} (first at {source}:2)" in rows.summary()
    with pytest.raises(UserError, match=f"no row is left of 1 .*{reason}"):
        read(jsonl(tmp_path, row))


def test_columns_that_nothing_looked_at_are_named(tmp_path: Path) -> None:
    both = {"messages": MESSAGES, "prompt": "Hi", "idx": 0}
    source = jsonl(tmp_path, both, {"prompt": "Hi", "completion": "a", "idx": 1}, {"instruction": "Hi", "output": "b"})
    rows = read_demonstrations(source)
    assert rows.unused == ("idx",)  # the first row's prompt was not needed, but the second's was
    assert rows.summary().endswith("columns not used: idx.")


@pytest.mark.parametrize("name", ["chosen", "rejected"])
def test_empty_answer_that_was_compared_is_kept_and_counted(tmp_path: Path, name: str) -> None:
    source = jsonl(tmp_path, {"prompt": "Hi", "chosen": "a", "rejected": "b"} | {name: ""})
    rows = read_preferences(source)
    assert getattr(rows.items[0], name) == said("")
    assert rows.notes == (Remark(f"{source}:1", "empty answer among those compared"),)
    rows_k = read_rankings(jsonl(tmp_path, {"prompt": "Hi", "completions": ["a", ""]}))
    assert rows_k.items == (Ranking((USER,), (said("a"), said(""))),)
    assert len(rows_k.notes) == 1


def test_number_where_a_text_should_be_is_spelt_out_and_counted(tmp_path: Path) -> None:
    source = jsonl(tmp_path, {"prompt": 12, "completion": True}, {"instruction": 1.5, "output": "x"})
    rows = read_demonstrations(source)
    assert rows.items == (
        Demonstration((*asked("12"), *said("true"))),
        Demonstration((*asked("1.5"), *said("x"))),
    )
    assert len(rows.notes) == 3
    with pytest.raises(UserError, match="should be a text or a list of messages, not a number"):
        read_demonstrations(jsonl(tmp_path, {"prompt": float("nan"), "completion": "x"}))


# --- columns under other names


def test_columns_can_be_mapped(tmp_path: Path) -> None:
    row = {"instruction": "Hi", "input": "there", "response1": "a", "response2": "b", "annotator1": 2}
    source = jsonl(tmp_path, row)
    rows = read_preferences(source, columns={"chosen": "response1", "rejected": "response2"})
    assert rows.items == (Preference(asked("Hi\n\nthere"), said("a"), said("b")),)
    assert rows.unused == ("annotator1",)
    swapped = read_preferences(source, columns={"prompt": "input", "chosen": "response2", "rejected": "response1"})
    assert swapped.items == (Preference(asked("there"), said("b"), said("a")),)


def test_mapping_errors(tmp_path: Path) -> None:
    source = jsonl(tmp_path, {"query": "Hi", "reply": "a"})
    with pytest.raises(UserError, match=r"columns: 'promt' is no column of this kind \(did you mean 'prompt'\?\)"):
        read_demonstrations(source, columns={"promt": "query"})
    with pytest.raises(UserError, match=r"rows.jsonl:1: has no column 'querry' \(did you mean 'query'\?\)"):
        read_demonstrations(source, columns={"prompt": "querry"})


def test_real_file_of_a_user() -> None:
    path = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "pandalm-testset-v1.json"
    if not path.is_file():
        pytest.skip("the PandaLM test set is not beside this checkout")
    raw = json.loads(path.read_text(encoding="utf-8"))
    rows = read_preferences(path, columns={"chosen": "response1", "rejected": "response2"})
    answers = [(row["response1"], row["response2"]) for row in raw]
    assert rows.read == len(rows) == len(raw) == 999
    assert [note.reason for note in rows.notes].count("number or truth value taken as text") == 6
    assert [note.reason for note in rows.notes].count("empty answer among those compared") == sum(
        not (str(one).strip() and str(other).strip()) for one, other in answers
    )
    first = raw[0]
    assert rows.items[0].prompt == asked(f"{first['instruction']}\n\n{first['input']}")
    assert rows.items[0].chosen == said(first["response1"])
    assert set(rows.unused) == {"idx", "motivation_app", "cmp_key", "annotator1", "annotator2", "annotator3"}


# --- rows of the wrong shape: file, line, what was found, what to do


@pytest.mark.parametrize(
    ("read", "row", "sentence"),
    [
        (read_demonstrations, {"promt": "Hi", "completion": "x"}, r"has 'promt', 'completion' \(did you mean 'prompt'"),
        (read_demonstrations, {"prompt": "Hi"}, r"needs 'messages'; or 'prompt' and 'completion'.*columns=\{"),
        (read_demonstrations, {"prompt": "Hi", "completion": None}, r"\(null: 'completion'\)"),
        (
            read_demonstrations,
            {"prompt": {}, "completion": "x"},
            "'prompt' should be a text or a list of messages, not",
        ),
        (read_demonstrations, {"prompt": [], "completion": "x"}, "'prompt' is an empty list"),
        (read_demonstrations, {"prompt": MESSAGES, "completion": "x"}, "prompt ends with an assistant's turn"),
        (read_demonstrations, {"prompt": "Ho", "completion": MESSAGES}, "it should repeat the prompt and go on"),
        (read_demonstrations, {"prompt": "Hi", "completion": MESSAGES[:1]}, "it should repeat the prompt and go on"),
        (read_demonstrations, {"messages": "Hi"}, "a list of messages or a transcript"),
        (read_demonstrations, {"messages": MESSAGES[:1]}, "has no assistant's turn"),
        (read_demonstrations, {"messages": ["Hi"]}, r"'messages\[0\]' should be a message .* not a text"),
        (read_demonstrations, {"messages": [{"role": "user"}]}, "should have 'role' and 'content', but has 'role'"),
        (read_demonstrations, {"messages": [{}]}, "but has nothing"),
        (read_demonstrations, {"messages": [MESSAGES[0], {"role": "narrator", "content": "x"}]}, r"\[1\].*'narrator'"),
        (read_demonstrations, {"messages": [{"role": "user", "content": None}]}, "should be a text, not null"),
        (
            read_demonstrations,
            {"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]},
            "images and calls are not read",
        ),
        (
            read_demonstrations,
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}]},
            "holds 'tool_calls'",
        ),
        (read_demonstrations, {"system": "x", "messages": [{"role": "system", "content": "y"}]}, "another system"),
        (read_demonstrations, {"system": [], "prompt": "Hi", "completion": "x"}, "'system' should be a text, not a li"),
        (read_demonstrations, {"instruction": ["Hi"], "output": "x"}, "'instruction' should be a text, not a list"),
        (read_preferences, {"prompt": "Hi", "chosen": "x"}, "needs 'prompt', 'chosen' and 'rejected'"),
        (read_preferences, {"chosen": "x", "rejected": "y"}, "give the prompt in a column of its own"),
        (
            read_preferences,
            {"prompt": "Hi", "chosen": "x", "rejected": "y", "probability": 1.5},
            "'probability' should be a number from 0 to 1, not 1.5",
        ),
        (
            read_preferences,
            {"prompt": "Hi", "chosen": "x", "rejected": "y", "probability": True},
            "'probability' should be a number from 0 to 1, not True",
        ),
        (
            read_preferences,
            {"prompt": "Hi", "chosen": "x", "rejected": "y", "margin": "much"},
            "'margin' should be a number, not 'much'",
        ),
        (
            read_preferences,
            {"prompt": "Hi", "chosen": "x", "rejected": "y", "margin": float("nan")},
            "'margin' should be a number, not nan",
        ),
        (
            read_comparisons,
            {"prompt": "Hi", "answers": ["x", "y"]},
            "a preference or a ranking needs 'prompt', 'chosen'",
        ),
        (read_comparisons, {"prompt": "Hi", "chosen": "x"}, "a preference needs 'prompt', 'chosen' and 'rejected'"),
        (read_rankings, {"prompt": "Hi", "completions": "x"}, "'completions' should be a list, not a text"),
        (read_rankings, {"prompt": "Hi", "chosen": "x"}, "a ranking needs"),
        (read_rankings, {"prompt": "Hi", "completions": ["a", "b"], "ranks": [1]}, "has 2 answers and 1 ranks"),
        (read_rankings, {"prompt": "Hi", "completions": ["a", "b"], "ranks": [1, None]}, "'ranks' should be a number"),
        (
            read_rankings,
            {"prompt": "Hi", "completions": ["a", "b"], "ranks": [1, 2], "scores": [1, 2]},
            "both 'ranks' and 'scores'",
        ),
        (read_preferences, {"prompt": "Hi", "chosen": "x", "rejected": "y", "margin": [[1]]}, "number, not a list"),
        (read_demonstrations, {"messages": [{"role": "a\nb", "content": "x"}]}, r"has the role 'a\\nb'; use system"),
        (read_demonstrations, {"messages": [{"role": ["user"], "content": "x"}]}, "has the role a list; use system"),
        (read_prompts, {"id": ["2"], "prompt": "Ho"}, "'id' should be a text or a number, not a list"),
        (read_prompts, {"text": "Hi"}, "a prompt needs 'prompt'"),
        (read_prompts, {"id": "2", "prompt": "Ho"}, r"has the id '2', which .*rows.jsonl:1 has too"),
    ],
)
def test_row_of_the_wrong_shape(tmp_path: Path, read: Any, row: dict[str, Any], sentence: str) -> None:
    good = {"id": "2", "prompt": "Hi", "completion": "a", "chosen": "a", "rejected": "b", "completions": ["a", "b"]}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(good) + "\n\n" + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=sentence) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert "\n" not in str(caught.value)


# --- the formats of a file

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="")


def write_json(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def write_json_object(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"version": 1, "rows": rows}, ensure_ascii=False), encoding="utf-8", newline="")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(list(rows)), path)


WRITERS = [
    ("rows.jsonl", write_jsonl),
    ("rows.ndjson", write_jsonl),
    ("rows.json", write_json),
    ("rows.JSON", write_json_object),
    ("rows.csv", write_csv),
    ("rows.parquet", write_parquet),
]


@pytest.mark.parametrize(("name", "write"), WRITERS)
@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=4))
def test_every_format_round_trips(
    tmp_path_factory: pytest.TempPathFactory, name: str, write: Any, rows: list[tuple[str, str, str]]
) -> None:
    path = tmp_path_factory.mktemp("round") / name
    kept = [(f"Q{question}", f"A{good}", f"B{bad}") for question, good, bad in rows]
    write(path, [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in kept])
    read = read_preferences(path)
    assert list(read) == [Preference(asked(question), said(good), said(bad)) for question, good, bad in kept]


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_nested_columns_and_missing_values(tmp_path: Path, name: str, write: Any) -> None:
    nested = json.dumps(MESSAGES) if name.endswith("csv") else MESSAGES
    write(tmp_path / name, [{"messages": nested, "system": ""}, {"messages": nested, "system": "Brief."}])
    assert [item.messages for item in read_demonstrations(tmp_path / name)] == [
        (USER, BOT),
        (Message("system", "Brief."), USER, BOT),
    ]


@pytest.mark.parametrize(
    ("name", "write", "place"),
    [
        ("rows.jsonl", write_jsonl, "rows.jsonl:3: "),
        ("rows.json", write_json, "rows.json:14: "),  # indent 1: a bracket, then six lines for each row
        ("rows.json", write_json_object, "rows.json, rows[2]: "),
        ("rows.csv", write_csv, "rows.csv:5: "),  # the header, one line, two lines, then this
        ("rows.parquet", write_parquet, "rows.parquet, row 2: "),
    ],
)
def test_every_format_says_where(tmp_path: Path, name: str, write: Any, place: str) -> None:
    good = {"prompt": "Hi", "chosen": "a", "rejected": "b", "probability": "1"}
    write(tmp_path / name, [good, good | {"prompt": "two\nlines"}, good | {"probability": "sure"}])
    with pytest.raises(UserError, match="should be a number from 0 to 1, not 'sure'") as caught:
        read_preferences(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / place}")


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    for name, text in (
        ("a.jsonl", '{"prompt": "Hi"}\r\n\r\n{"prompt": "Hö"}\r\n'),
        ("a.json", '[{"prompt": "Hi"},\r\n {"prompt": "Hö"}]\r\n'),
        ("a.csv", "prompt\r\nHi\r\n\r\nHö\r\n"),
    ):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert [item.messages for item in read_prompts(tmp_path / name)] == [asked("Hi"), asked("Hö")]


def test_csv_cell_longer_than_the_standard_limit(tmp_path: Path) -> None:
    csv.field_size_limit(131_072)
    write_csv(tmp_path / "a.csv", [{"prompt": "x" * 200_000}])
    assert read_prompts(tmp_path / "a.csv").items[0].messages == asked("x" * 200_000)
    assert csv.field_size_limit() == 131_072


BAD_FILES = [
    ("a.jsonl", b"", "the file is empty"),
    ("a.jsonl", b"\n \n", "holds no rows"),
    ("a.jsonl", b'{"prompt": "Hi"}\n{"prompt": "H', r"a.jsonl:2: the JSON ends in the middle of a value.*cut off"),
    ("a.jsonl", b'{"prompt": "Hi"}\n{"prompt":\n', r"a.jsonl:2: the JSON ends in the middle"),
    ("a.jsonl", b'{"prompt": "Hi"}\n{prompt: 1}\n', r"a.jsonl:2: is not valid JSON \(Expecting property name"),
    ("a.jsonl", b'{"prompt": "Hi"} {"prompt": "Ho"}\n', r"a.jsonl:1: is not valid JSON \(Extra data at column 18"),
    ("a.jsonl", b'{"prompt": "Hi"}\n["Hi"]\n', r"a.jsonl:2: a row should be an object .* not a list"),
    ("a.jsonl", b'{"prompt": "Hi"}\n\n{"prompt": "H\xff"}\n', r"a.jsonl:3: byte 0xff is not UTF-8; save"),
    ("a.jsonl", '{"prompt": "Hi"}'.encode("utf-16"), "a.jsonl: is encoded as UTF-16; save the file as UTF-8"),
    ("a.jsonl", b"[" * 100_000 + b"\n", r"a.jsonl:1: .*JSON"),
    ("a.jsonl", b'{"n": ' + b"9" * 5000 + b"}\n", r"a.jsonl:1: is JSON that cannot be held"),
    (
        "a.jsonl",
        b'{"prompt": "Hi"}\n{"prompt": "a", "prompt": "b"}\n',
        "a.jsonl:2: 'prompt' is given twice in one object",
    ),
    ("a.jsonl", rb'{"prompt": "Hi \ud83d"}', r"a.jsonl:1: a text holds \\ud83d, half of a character that takes two"),
    (
        "a.json",
        b'[{"prompt": "Hi"},\n {"prompt": "Ho", "x": {"a": 1, "a": 2}}]',
        "a.json:2: 'a' is given twice in one object",
    ),
    ("a.json", rb'[{"prompt": "Hi", "\udc00": 1}]', r"a.json:1: a text holds \\udc00, half of a character"),
    ("a.json", b" \n", "holds no rows"),
    ("a.json", b"[]", "holds no rows"),
    ("a.json", b'"Hi"', "holds a text; a JSON file should hold a list of objects"),
    ("a.json", b'[{"prompt": "Hi"},\n {"prompt": "H', r"a.json:2: the JSON ends in the middle"),
    ("a.json", b'[{"prompt": "Hi"}\n', r"a.json:\d: the JSON ends in the middle"),
    ("a.json", b'[{"prompt": "Hi"},\n\n {"prompt" "Ho"}]', r"a.json:3: is not valid JSON \(Expecting ':'"),
    ("a.json", b'[{"prompt": "Hi"}\n {"prompt": "Ho"}]', r"a.json:2: is not valid JSON \(Expecting ','"),
    ("a.json", b'[{"prompt": "Hi"},\n]', r"a.json:2: is not valid JSON"),
    ("a.json", b'[{"prompt": "Hi"}]\n[]', r"a.json:2: more follows"),
    ("a.json", b'[{"prompt": "Hi"},\n 3]', r"a.json:2: a row should be an object .* not a number"),
    ("a.json", b'{"prompt": "Hi"}\n{"prompt": "Ho"}\n', r"a.json:2: more follows.*name the file .jsonl"),
    ("a.json", b'{"prompt": "Hi"}', "holds one object with 0 lists among its keys \\('prompt'\\)"),
    ("a.json", b'{"a": [], "b": []}', "with 2 lists"),
    ("a.json", b'[\n{"prompt": "H\xc3"}]', r"a.json:2: byte 0xc3 is not UTF-8"),
    ("a.csv", b"prompt\n", "holds no rows"),
    ("a.csv", b"prompt,answer\nHi,a\nHo\n", r"a.csv:3: the row has 1 cells where the header has 2"),
    ("a.csv", b'prompt\n"a\nb"\nHi, you\n', r"a.csv:4: the row has 2 cells where the header has 1"),
    ("a.csv", b'prompt\n"a\nb",c\n', r"a.csv:2: the row has 2 cells"),
    ("a.csv", b'prompt\nHi\n"never closed\n', r"a.csv:3: is not valid CSV"),
    ("a.csv", b'prompt\n"a"b\n', r"a.csv:2: is not valid CSV"),
    ("a.csv", b"prompt;answer\nHi;a\n", r"a.csv:1: the cells are separated by ';'; save the file with commas"),
    ("a.csv", b"prompt,prompt\nHi,a\n", r"a.csv:1: the header \('prompt', 'prompt'\) should name each column once"),
    ("a.csv", b"prompt\nHi\nH\xe9\n", r"a.csv:3: byte 0xe9 is not UTF-8"),
    ("a.parquet", b"not a parquet file at all", "a.parquet: is not a valid Parquet file .*write it again"),
    ("a.parquet", b"PAR1" + b"\x00" * 40 + b"PAR1", "a.parquet: is not a valid Parquet file"),
    ("a.txt", b"Hi", "the suffix '.txt' is no data format that Keel reads; convert the file to one of .csv, .json,"),
    ("a.pkl", b"cos\nsystem\n(S'false'\ntR.", "the suffix '.pkl' is no data format"),
]


@pytest.mark.parametrize(("name", "data", "sentence"), BAD_FILES)
def test_file_that_cannot_be_read(tmp_path: Path, name: str, data: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=sentence) as caught:
        read_prompts(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_character_that_json_writes_in_two_halves(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(rb'{"prompt": "\ud83d\ude00 \\ud83d"}')
    assert read_prompts(tmp_path / "a.jsonl").items[0].messages == asked("\U0001f600 \\ud83d")


def parquet_of(path: Path, names: Sequence[str], *columns: Any) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_arrays([pa.array(*column) for column in columns], names=list(names)), path)
    return path


def test_parquet_columns_that_cannot_be_told_apart_or_read(tmp_path: Path) -> None:
    import pyarrow as pa

    path = tmp_path / "a.parquet"
    parquet_of(path, ("prompt", "prompt"), (["Hi"],), (["Ho"],))
    with pytest.raises(UserError, match=r"a.parquet: the columns \('prompt', 'prompt'\) should have a name each"):
        read_prompts(path)
    parquet_of(path, ("prompt", "when"), (["Hi"],), ([2**60], pa.timestamp("us")))
    with pytest.raises(UserError, match=r"a.parquet: column 'when' holds what cannot be read \(.*out of range\)"):
        read_prompts(path)
    twice = pa.struct([("a", pa.int64()), ("a", pa.int64())])
    both = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], fields=list(twice))
    parquet_of(path, ("prompt", "both"), (["Hi"],), (both,))
    with pytest.raises(UserError, match=r"a.parquet: column 'both' holds what cannot be read"):
        read_prompts(path)


def test_parquet_that_was_written_with_checksums_is_held_to_them(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    table = pa.table({"prompt": ["one text", "another"]})
    pq.write_table(
        table, path, write_page_checksum=True, compression="none", use_dictionary=False, write_statistics=False
    )
    path.write_bytes(path.read_bytes().replace(b"one text", b"one test", 1))
    with pytest.raises(UserError, match=r"a.parquet: is not a valid Parquet file \(.*CRC"):
        read_prompts(path)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "an empty text was given where a path should stand"),
        ("Write a note about the bake sale. " * 20, "cannot be looked up (File name too long)"),
        ("~nobody-of-this-name/a.jsonl", "there is no such home folder"),
        ("a\x00.jsonl", "a\\x00.jsonl: cannot be looked up (embedded null byte)"),
        ("gone.jsonl", "gone.jsonl: is a link that leads to no file"),
        ("loop.jsonl", "loop.jsonl: cannot be looked up (Too many levels of symbolic links)"),
        ("links", "gone.csv: cannot be read (No such file or directory)"),
    ],
)
def test_paths_that_lead_nowhere(source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gone.jsonl").symlink_to("nowhere.jsonl")
    Path("loop.jsonl").symlink_to("loop.jsonl")
    Path("links").mkdir()
    Path("links/gone.csv").symlink_to("nowhere.csv")
    jsonl(tmp_path / "links", {"prompt": "Hi"})
    with pytest.raises(UserError) as caught:
        read_prompts(source)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_folder_that_may_not_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jsonl(tmp_path, {"prompt": "Hi"})
    (tmp_path / "locked").mkdir()
    look = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"locked: cannot be looked into \(Permission denied\); check its rights"):
        read_prompts(tmp_path)


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "data" / "more").mkdir(parents=True)
    jsonl(tmp_path / "data", {"prompt": "one"})
    jsonl(tmp_path / "data" / "more", {"prompt": "two"})
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "data")
    assert len(read_prompts(tmp_path / "data")) == len(read_prompts(tmp_path / "elsewhere")) == 2


def test_an_error_is_one_line_and_has_an_end(tmp_path: Path) -> None:
    row = {f"column\n{number}" + "x" * 500: "a" for number in range(1000)}
    with pytest.raises(UserError) as caught:
        read_prompts(jsonl(tmp_path, row))
    assert "\n" not in str(caught.value)
    assert "and 980 more" in str(caught.value)
    assert len(str(caught.value)) < 2000
    rows = read_demonstrations(jsonl(tmp_path, {"prompt": "Hi", "completion": "a", "a\nb": 1}))
    assert rows.summary().endswith("columns not used: a\\nb.")


def test_missing_file_and_its_neighbour(tmp_path: Path) -> None:
    jsonl(tmp_path, {"prompt": "Hi"}, name="train.jsonl")
    with pytest.raises(UserError, match=r"trian.jsonl: no such file or folder \(did you mean 'train.jsonl'\?\); give"):
        read_prompts(tmp_path / "trian.jsonl")
    with pytest.raises(UserError, match=r"the folder .*nowhere does not exist either"):
        read_prompts(str(tmp_path / "nowhere" / "train.jsonl"))


def test_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.csv").mkdir()
    (tmp_path / ".cache").mkdir()
    write_csv(tmp_path / "b.csv" / "1.csv", [{"prompt": "three"}])
    write_parquet(tmp_path / "a2.parquet", [{"prompt": "two"}])
    write_json(tmp_path / "a1.json", [{"prompt": "one"}])
    write_jsonl(tmp_path / ".cache" / "x.jsonl", [{"prompt": "hidden"}])
    (tmp_path / "README.md").write_text("about")
    rows = read_prompts(tmp_path)
    assert [(item.id, item.messages[0].content) for item in rows] == [("0", "one"), ("1", "two"), ("2", "three")]


def test_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no .csv, .json, .jsonl, .ndjson, .parquet file \(found: nothing\)"):
        read_prompts(tmp_path)
    (tmp_path / "README.md").write_text("about")
    with pytest.raises(UserError, match=r"found: .md"):
        read_prompts(tmp_path)
