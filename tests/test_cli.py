"""The command line: what is called with what, what is said, and which status comes back."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import keel
from keel import cli
from keel.commands.chat import converse
from keel.commands.model import find_model
from keel.config import Recipe, RewardTerm, load_recipe
from keel.display import Display, SilentDisplay
from keel.errors import UserError
from keel.types import Conversation, Message

ROOT = Path(__file__).parents[1]
BASE = ROOT / "src" / "keel" / "tasks" / "town_desk" / "base"


class Summary:
    """What a pipeline gives back."""

    def to_json(self) -> dict[str, Any]:
        return {"win_rate": 0.75}

    def __str__(self) -> str:
        return "PPO wins 75 %"


class Pipeline(ModuleType):
    """Stands in for keel.pipeline and remembers what it was asked to do."""

    def __init__(self) -> None:
        super().__init__("keel.pipeline")
        self.calls: list[tuple[str, Recipe, Path, Display]] = []

    def run(self, recipe: Recipe, directory: Path, display: Display) -> Summary:
        self.calls.append(("run", recipe, directory, display))
        return Summary()

    def run_stage(self, name: str, recipe: Recipe, directory: Path, display: Display) -> Summary:
        self.calls.append((name, recipe, directory, display))
        return Summary()


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pipeline:
    """A pipeline that does nothing, and an empty folder to be in."""
    fake = Pipeline()
    monkeypatch.setitem(sys.modules, "keel.pipeline", fake)
    monkeypatch.setattr(keel, "pipeline", fake, raising=False)
    monkeypatch.chdir(tmp_path)
    return fake


@pytest.fixture
def called(pipeline: Pipeline) -> Callable[..., tuple[str, Recipe, Path, Display]]:
    """Runs a command line that must succeed; gives what the pipeline was asked to do."""

    def call(*argv: str) -> tuple[str, Recipe, Path, Display]:
        assert cli.run(argv) == 0
        (made,) = pipeline.calls
        return made

    return call


@pytest.fixture
def refused(pipeline: Pipeline, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Runs a command line that must be refused; gives the sentence. Nothing may have been written."""
    before: set[Path] = set()

    def call(*argv: str) -> str:
        before.update(tmp_path.rglob("*"))
        assert cli.run(argv) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("keel: error: ")
        assert err.count("\n") == 1
        return err.removeprefix("keel: error: ").strip()

    yield call
    assert set(tmp_path.rglob("*")) == before
    assert pipeline.calls == []


def python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False, **options
    )


# keel --help


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    heavy = "torch transformers pydantic numpy rich yaml argparse datasets keel.config".split()
    program = (
        f"import sys, keel.cli; keel.cli.run(['--help']); sys.exit([m for m in {heavy} if m in sys.modules] != [])"
    )
    assert python("-c", program).returncode == 0
    times = []
    for _ in range(5):
        began = time.perf_counter()
        assert python("-m", "keel", "--help").returncode == 0
        times.append(time.perf_counter() - began)
    assert statistics.median(times) < 0.5, times


def test_help_names_every_command_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["-h"], ["help"], []):
        assert cli.run(argv) == 0
        page = capsys.readouterr().out
        assert max(map(len, page.splitlines())) <= 80
        for command in cli.COMMANDS:
            assert f"  {command.name} " in page
            assert f"$ {command.example}" in page


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help_without_torch(command: cli.Command) -> None:
    program = (
        f"import sys, keel.cli\ntry: keel.cli.run([{command.name!r}, '--help'])\n"
        "finally: assert 'torch' not in sys.modules"
    )
    result = python("-c", program, env={**os.environ, "COLUMNS": "80"})
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: keel ")
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_help_of_run_lists_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.run(["run", "--help"])
    page = capsys.readouterr().out
    assert stopped.value.code == 0
    for flag in ("--seed", "--model.lora.rank", "--rl.kl.coef", "--evaluation.sampling.stop", "--rl.reward"):
        assert f"  {flag} " in page


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"keel {keel.__version__}\n"


# Exit statuses


def test_an_unknown_command_is_told_the_nearest(refused: Callable[..., str]) -> None:
    assert refused("rewrad") == "there is no command 'rewrad' (did you mean 'reward'?); `keel --help` lists them"


def test_ctrl_c_is_a_sentence(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", interrupted)
    assert cli.run(["demo"]) == 130
    assert capsys.readouterr().err.strip() == "keel: stopped by Ctrl-C; what was finished is kept"


def test_a_bug_keeps_its_traceback(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(pipeline, "run", broken)
    with pytest.raises(ZeroDivisionError):
        cli.run(["demo"])


def test_a_bug_exits_with_1_and_a_mistake_in_the_input_with_2() -> None:
    broken = "import keel.cli as c; c.dispatch = lambda argv: 1 / 0; c.main()"
    result = python("-c", broken)
    assert (result.returncode, "ZeroDivisionError" in result.stderr) == (1, True)
    result = python("-m", "keel", "run", "nowhere.yaml")
    assert result.returncode == 2
    assert result.stderr == ("keel: error: there is no recipe nowhere.yaml; `keel init DIR` writes one to start from\n")


def test_a_reader_that_leaves_is_no_error() -> None:
    program = f"{sys.executable} -m keel run --help | head -1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in result.stderr
    assert result.returncode in (0, 120, 128 + signal.SIGPIPE)


# keel run, keel demo


def test_run_reads_the_recipe_and_the_flags(called: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 5\nppo: {kl: {coef: 0.1, target: 3}}\n")
    name, recipe, directory, display = called(
        *("run", "mine.yaml", "--dir", "out", "--json", "--rl.kl.coef", "0.02", "--ppo.missing-eos-score", "-1e-1"),
        *("--sft.columns.prompt", "question", "--model.lora.target_modules", "q_proj,v_proj"),
        *("--sft.optimizer.betas=0.8,0.9", "--reward.data", "007"),
    )
    assert name == "run"
    assert directory == Path("out")
    assert isinstance(display, SilentDisplay)
    assert recipe == load_recipe(
        None,
        {
            "seed": 5,
            "dir": "out",
            "rl.kl": {"coef": 0.02, "target": 3.0},
            "rl.missing_eos_score": -0.1,
            "sft.columns": {"prompt": "question"},
            "model.lora.target_modules": ("q_proj", "v_proj"),
            "sft.optimizer.betas": (0.8, 0.9),
            "reward.data": "007",
        },
    )


@pytest.mark.parametrize(
    ("path", "flags", "directory"),
    [
        ("small.yaml", (), "runs/small"),
        ("mine/recipe.yaml", (), "runs/mine"),
        ("small.yaml", ("--dir", "else"), "else"),
    ],
)
def test_where_a_run_goes(
    path: str, flags: tuple[str, ...], directory: str, called: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text("seed: 1\n")
    assert called("run", path, *flags)[2] == Path(directory)


@pytest.mark.parametrize("command", ["run", "plan", "check"])
def test_commands_on_a_recipe_mean_the_same_folder(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "recipe.yaml").write_text("seed: 1\n")
    monkeypatch.chdir(tmp_path)
    meant: list[Path] = []

    def asked(*given: object) -> None:
        meant.extend(one for one in given if isinstance(one, Path))
        raise UserError("that is all")

    monkeypatch.setattr("keel.pipeline.run", asked)
    monkeypatch.setattr("keel.pipeline.checked", asked)
    assert cli.run([command, "mine/recipe.yaml"]) == 2
    assert meant == [Path("runs/mine")]


def test_demo_is_the_recipe_that_ships(called: Callable[..., Any]) -> None:
    name, recipe, directory, _ = called("demo", "--seed", "3")
    assert (name, directory) == ("run", Path("runs/demo"))
    assert recipe == load_recipe(ROOT / "recipes" / "town_desk.yaml", {"seed": 3})


def test_results_are_for_people_or_for_programs(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["demo"]) == 0
    assert capsys.readouterr().out == "PPO wins 75 %\n"
    assert cli.run(["demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"win_rate": 0.75}


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("demo --rl.kl.coeff 1", "there is no flag --rl.kl.coeff (did you mean --rl.kl.coef?); "
         "see `keel demo --help`"),
        ("demo --ppo.temperature 1", "there is no flag --ppo.temperature (did you mean --rl.sampling.temperature?); "
         "see `keel demo --help`"),
        ("demo --qqqq", "there is no flag --qqqq; see `keel demo --help`"),
        ("demo x", "unexpected argument x; see `keel demo --help`"),
        ("demo --seed", "--seed: expected one argument; see `keel demo --help`"),
        ("demo --sft.epochs three", '--sft.epochs must be a whole number, found "three" (text)'),
        ("demo --rl.clip -1", "--rl.clip must be more than 0, found -1 (a whole number)"),
        ("demo --device tpu", '--device must be one of auto, cpu, cuda or mps, found "tpu" (text)'),
        ("demo --rl.reward [{kind", "--rl.reward:1: not valid YAML: expected ',' or '}', but got '<stream end>'"),
        ("run", "the following arguments are required: RECIPE; see `keel run --help`"),
        ("init", "the following arguments are required: DIR; see `keel init --help`"),
        ("sft", "no model to start from; name one, as in "
         "`keel sft --model ./base --data notes.jsonl --dir runs/notes`"),
        ("sft --model m", "sft.data is missing: give demonstrations (columns such as messages, or prompt and "
         "completion) with --data FILE"),
        ("reward --model m", "reward.data is missing: give preferences (columns such as prompt, chosen and rejected) "
         "with --data FILE"),
        ("ppo --model m", "rl.prompts is missing: give prompts (a column such as prompt or messages) "
         "with --prompts FILE"),
        ("ppo --model m --prompts p", "there is no reward model in runs/ppo/reward/model; name one with --reward PATH"),
        ("sft --model m --data d --epoch 3", "there is no flag --epoch (did you mean --sft.epochs?); "
         "see `keel sft --help`"),
        ("sample m", "give either --prompt TEXT or --prompts FILE"),
        ("sample m --prompt a --prompts b", "give either --prompt TEXT or --prompts FILE"),
        ("sample m --prompt a --n 0", "--n must be at least 1, found 0"),
        ("sample m --prompt a --temperature hot", '--temperature must be a number, found "hot" (text)'),
        ("sample m --prompt a --max-tokns 3", "there is no flag --max_tokns (did you mean '--max_tokens'?); "
         "see `keel sample --help`"),
        ("chat m --top_p 2", "--top_p must be at most 1, found 2 (a whole number)"),
        ("chat . --top_p 1", ". holds no model: give a run with ppo/model or sft/model, or a folder with config.json"),
    ],
)  # fmt: skip
def test_refusals(argv: str, sentence: str, refused: Callable[..., str]) -> None:
    assert refused(*argv.split()) == sentence


def test_words_that_are_not_text_or_name_nothing(refused: Callable[..., str], tmp_path: Path) -> None:
    said = refused("init", "caf\udce9")
    assert said == "'caf\\udce9' is not UTF-8 text; rename the file, or write the value anew; see `keel init --help`"
    long = "a long sentence " * 30
    for argv in (
        ("chat", long),
        ("init", long),
        ("report", long),
        ("sft", "--model", "m", "--data", "d", "--dir", long),
    ):
        assert "cannot be looked up (File name too long)" in refused(*argv)
    assert refused("chat", "") == "an empty text was given where a path should stand; give the path."
    assert (
        refused("sample", "m", "--prompt", "a", "--out", "")
        == "an empty text was given where a path should stand; give the path."
    )
    (tmp_path / "folder").mkdir()
    assert (
        refused("sample", "m", "--prompt", "a", "--out", "folder") == "--out folder is a folder; name the file to write"
    )


def test_a_file_in_the_way_of_the_folder_is_named(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    said = refused("demo", "--dir", "out/deep")
    assert said == "out is a file, so out/deep cannot be a folder; choose another"


# keel sft, reward, ppo


def test_sft_on_ones_own_data(called: Callable[..., Any]) -> None:
    name, recipe, directory, _ = called(
        *"sft --model ./base --data notes.jsonl --dir out --lr 1e-4 --epochs 2 --batch-size 8".split()
    )
    assert (name, directory) == ("sft", Path("out"))
    assert recipe == load_recipe(
        None,
        {
            "task": None,
            "dir": "out",
            "model.path": "./base",
            "sft.data": "notes.jsonl",
            "sft.epochs": 2,
            "sft.batch_size": 8,
            "sft.optimizer.lr": 1e-4,
        },
    )


def test_reward_on_ones_own_data(called: Callable[..., Any]) -> None:
    name, recipe, directory, _ = called(*"reward --model m --data pairs.jsonl --lr 2e-5".split())
    assert (name, directory) == ("reward", Path("runs/reward"))
    assert (recipe.task, recipe.model.path, recipe.reward.data) == (None, "m", "pairs.jsonl")
    assert recipe.reward.optimizer.lr == 2e-5


@pytest.mark.parametrize(
    ("spec", "term"),
    [
        ("runs/a/reward/model", RewardTerm(path="runs/a/reward/model")),
        ("rewards.py:brevity", RewardTerm(kind="function", path="rewards.py:brevity")),
    ],
)
def test_ppo_against_a_model_or_a_function(spec: str, term: RewardTerm, called: Callable[..., Any]) -> None:
    name, recipe, _, _ = called(*f"ppo --model m --prompts p.jsonl --updates 7 --reward {spec}".split())
    assert name == "ppo"
    assert recipe.rl.reward == (term,)
    assert recipe.rl.updates == 7


def test_ppo_finds_the_reward_model_of_its_folder(called: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "out" / "reward" / "model").mkdir(parents=True)
    assert called(*"ppo --model m --prompts p --dir out".split())[1].rl.reward == (RewardTerm(),)


def test_a_stage_of_a_recipe(called: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("task: town_desk\nreward: {centring: 0}\n")
    name, recipe, _, _ = called("reward", "r.yaml", "--seed", "2")
    assert name == "reward"
    assert recipe == load_recipe(tmp_path / "r.yaml", {"seed": 2})


def test_labels_are_data_enough_for_a_reward_model(called: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("task: null\npreferences: {labels: {data: votes.csv}}\n")
    assert called("reward", "r.yaml")[1].preferences.labels.data == "votes.csv"


# keel init


def test_init_writes_the_demo_with_every_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a" / "b"
    assert cli.run(["init", str(folder), "--rl.kl.coef", "0.5"]) == 0
    assert capsys.readouterr().out == f"wrote {folder}/recipe.yaml; `keel run {folder}/recipe.yaml` runs it\n"
    assert load_recipe(folder / "recipe.yaml") == load_recipe(ROOT / "recipes" / "town_desk.yaml", {"rl.kl.coef": 0.5})
    assert "# Peak learning rate" in (folder / "recipe.yaml").read_text(encoding="utf-8")


def test_init_for_ones_own_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["init", str(tmp_path), "--model", "./base", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"recipe": str(tmp_path / "recipe.yaml")}
    assert load_recipe(tmp_path / "recipe.yaml") == load_recipe(None, {"task": None, "model.path": "./base"})


def test_init_overwrites_nothing(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: 7\n")
    assert refused("init", ".") == "recipe.yaml exists already; choose another folder or remove it"
    assert (tmp_path / "recipe.yaml").read_text() == "seed: 7\n"
    (tmp_path / "file").write_text("")
    assert refused("init", "file") == "file is a file, so file cannot be a folder; choose another"


# keel report


@pytest.mark.parametrize(
    "argv",
    ["a --json b", "--json a b", "a b --json", "a --out page.html b --json", "--out page.html a --json b"],
)
def test_flags_may_stand_between_the_runs_that_are_compared(argv: str, refused: Callable[..., str]) -> None:
    """Both runs are read: neither is there, and the first is said."""
    assert (
        refused("report", *argv.split()) == "there is no folder a; name the folder of a finished run, such as runs/demo"
    )


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("a --jsn b", "there is no flag --jsn (did you mean '--json'?); see `keel report --help`"),
        ("--json", "the following arguments are required: RUN; see `keel report --help`"),
        ("a b --out", "--out: expected one argument; see `keel report --help`"),
        ("a --out page.html", "--out is for a comparison of several runs; the page of one run is report.html in its "
         "folder"),
        ("-- --json", "there is no folder --json; name the folder of a finished run, such as runs/demo"),
    ],
)  # fmt: skip
def test_refusals_of_report(argv: str, sentence: str, refused: Callable[..., str]) -> None:
    assert refused("report", *argv.split()) == sentence


def test_help_says_that_report_compares() -> None:
    assert "compare" in cli.find("report").about


# keel sample, keel chat


def test_the_model_of_a_run_is_that_of_its_last_stage(tmp_path: Path) -> None:
    for stage in ("sft", "ppo"):
        (tmp_path / stage / "model").mkdir(parents=True)
        (tmp_path / stage / "model" / "config.json").write_text("{}")
        assert find_model(str(tmp_path)) == tmp_path / stage / "model"
    assert find_model(str(tmp_path / "sft" / "model")) == tmp_path / "sft" / "model"
    assert find_model("owner/name") == Path("owner/name")


def test_a_conversation_grows_until_it_is_reset(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = iter(["hello", "", "too long", "again", "/reset", "new", "/quit", "never"])
    monkeypatch.setattr("builtins.input", lambda cue: next(lines))
    heard: list[list[str]] = []

    def answer(turns: Conversation) -> str:
        heard.append([f"{turn.role[0]}:{turn.content}" for turn in turns])
        if turns[-1].content == "too long":
            raise UserError("the prompt is too long")
        return f"<{turns[-1].content}>"

    converse(answer, "> ")
    assert heard == [
        ["u:hello"],
        ["u:hello", "a:<hello>", "u:too long"],
        ["u:hello", "a:<hello>", "u:again"],
        ["u:new"],
    ]
    out, err = capsys.readouterr()
    assert out.splitlines() == ["<hello>", "<again>", "<new>"]
    assert err == "keel: the prompt is too long; /reset begins a new conversation\n"


def test_the_end_of_input_ends_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(cue: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    converse(lambda turns: Message("assistant", "never").content, "")


PROMPT = "Facts: bake sale, Friday 3 pm, park; bring a plate. Write a short note for parents."


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    if not (BASE / "config.json").is_file():
        pytest.skip("the base model of Town Desk is not in the package yet")
    shutil.copytree(BASE, tmp_path / "run" / "sft" / "model")
    return tmp_path / "run"


def test_sample_writes_lines_that_sft_can_read(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from keel.data.formats import read_demonstrations

    out = tmp_path / "answers.jsonl"
    argv = ["sample", str(run_folder), "--prompt", PROMPT, "--n", "3", "--max-tokens", "12", "--seed", "4"]
    assert cli.run([*argv, "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["file"], report["completions"], sum(report["stops"].values())) == (str(out), 3, 3)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len({row["completion"] for row in rows}) > 1
    assert all(row["tokens"] <= 12 and row["logprob"] < 0 and row["stop"] in ("eos", "length") for row in rows)
    assert [one.messages[-1].content for one in read_demonstrations(out)] == [row["completion"] for row in rows]

    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": PROMPT, "id": "0"}) + "\n")
    assert cli.run([*argv[:2], "--prompts", str(tmp_path / "prompts.jsonl"), *argv[4:]]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    assert cli.run([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["completions"] == rows


def test_chat_reads_a_pipe(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PROMPT}\n/reset\n{PROMPT}\n"))
    assert cli.run(["chat", str(run_folder), "--max_tokens", "8", "--temperature", "0"]) == 0
    said = capsys.readouterr().out.removesuffix("\n")
    half = said[: len(said) // 2]
    assert half.strip()
    assert said == f"{half}\n{half}"  # greedy, so a conversation that begins anew goes the same way


# Packaging


def test_the_console_script_and_the_recipes_are_where_they_are_said_to_be() -> None:
    assert find_spec("keel.cli") is not None
    for command in cli.COMMANDS:
        assert find_spec(f"keel.commands.{command.function.partition(':')[0]}") is not None
    assert (ROOT / "recipes").resolve() == (Path(keel.__file__).parent / "recipes").resolve()


@pytest.mark.parametrize(("set_by_the_user", "expected"), [(None, "30000"), ("7", "7")])
def test_waiting_threads_soon_sleep_unless_the_user_says_otherwise(set_by_the_user: str | None, expected: str) -> None:
    """In a process of its own: OpenMP reads the variable when torch loads."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    if set_by_the_user:
        environment["GOMP_SPINCOUNT"] = set_by_the_user
    program = (
        "import os, sys; from keel import cli; code = cli.run(['report', 'nowhere']);"
        "print(os.environ['GOMP_SPINCOUNT'], code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [expected, "2"]
