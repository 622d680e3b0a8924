"""Models and data: what they are, and that they come out the same twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from small_spec import SPEC
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.versus_trl.inputs import Inputs, Spec, endings
from benchmarks.versus_trl.making import make


def test_the_same_spec_makes_the_same_files(inputs: Inputs, tmp_path: Path) -> None:
    again = make(SPEC, tmp_path)
    files = [path.relative_to(inputs.folder) for path in sorted(inputs.folder.rglob("*")) if path.is_file()]
    assert len(files) > 10
    for file in files:
        assert (again.folder / file).read_bytes() == (inputs.folder / file).read_bytes(), file


def test_inputs_are_made_once_and_another_spec_lies_elsewhere(inputs: Inputs) -> None:
    before = (inputs.folder / "spec.json").stat().st_mtime_ns
    assert make(SPEC, inputs.folder.parent) == inputs
    assert (inputs.folder / "spec.json").stat().st_mtime_ns == before
    assert replace(SPEC, seed=1).name != SPEC.name != Spec().name


def test_lengths_are_those_of_the_workloads(inputs: Inputs) -> None:
    assert all(32 <= len(row.tokens) <= 256 for row in inputs.demonstrations())
    for row in inputs.pairs("pairs-peer"):
        assert len(row.prompt) == 16
        assert all(32 <= 16 + len(side) <= 256 for side in (row.chosen, row.rejected))
    for row in inputs.pairs("pairs-human"):
        assert 128 <= len(row.prompt) <= 192
        assert all(32 <= len(side) <= 96 for side in (row.chosen, row.rejected))
    assert len(inputs.prompts()) == SPEC.prompts


def test_a_prompt_is_its_text(inputs: Inputs) -> None:
    tokenizer = AutoTokenizer.from_pretrained(inputs.model("dot"))
    for prompt in inputs.prompts():
        assert tuple(tokenizer(prompt.text)["input_ids"]) == prompt.tokens
        assert len(prompt.tokens) == SPEC.prompt


def test_the_models_have_the_shape_that_is_told(inputs: Inputs) -> None:
    assert inputs.size("dot") == SPEC.sizes["dot"]
    assert inputs.vocabulary("dot") == SPEC.vocabulary
    model = AutoModelForCausalLM.from_pretrained(inputs.model("dot"))
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name)
    assert matrices == inputs.size("dot").body
    assert not model.config.tie_word_embeddings
    classifier = AutoModelForSequenceClassification.from_pretrained(inputs.model("dot-reward"))
    assert classifier.config.num_labels == 1


def test_random_ends_are_spread_over_the_vocabulary() -> None:
    ids = endings(4096, 128)
    assert len(set(ids)) == 128
    assert min(ids) > 4
    assert max(ids) == 4095
