"""The `keel` command: finds the sub-command and says errors in a sentence. Imports nothing heavy until one runs."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from keel import __version__
from keel.errors import Stopped, UserError


@dataclass(frozen=True)
class Command:
    """A line of `keel --help`, and the function that the command calls with the rest of the command line."""

    name: str
    about: str
    example: str
    function: str


COMMANDS = (
    Command("demo", "the whole pipeline on a built-in task", "keel demo", "demo:demo"),
    Command("init", "write a commented recipe into a folder", "keel init mine", "init:init"),
    Command("run", "run every stage of a recipe", "keel run mine/recipe.yaml --rl.kl.coef 0.02", "run:run"),
    Command("plan", "memory and time of a run, before it starts", "keel plan mine/recipe.yaml", "plan:plan"),
    Command("check", "find what would spoil a run, before it starts", "keel check mine/recipe.yaml", "check:check"),
    Command("loop", "go round again with the new policy", "keel loop mine/recipe.yaml --rounds 3", "loop:loop"),
    Command(
        "compare", "several methods on one task", "keel compare mine/recipe.yaml --methods ppo,dpo", "compare:compare"
    ),
    Command(
        "best-of", "the best of n answers, without training", "keel best-of runs/demo --n 1,4,16", "best_of:best_of"
    ),
    Command("sft", "fine-tune a model on demonstrations", "keel sft --model PATH --data FILE --dir OUT", "stage:sft"),
    Command("reward", "fit a reward model to preferences", "keel reward --model PATH --data FILE", "stage:reward"),
    Command("ppo", "optimise a model against a reward", "keel ppo --model PATH --reward PATH", "stage:ppo"),
    Command("rl", "the same by another algorithm, such as grpo", "keel rl --algorithm grpo --model PATH", "stage:rl"),
    Command("dpo", "tune a model straight on preferences", "keel dpo --model PATH --data FILE --loss ipo", "stage:dpo"),
    Command("labels", "how far people agree; their votes as one", "keel labels agreement FILE", "labels:labels"),
    Command("label", "let people compare answers in a web page", "keel label --from pairs.jsonl", "label:label"),
    Command("report", "write the report of a run, or compare several", "keel report runs/demo", "report:report"),
    Command("sample", "write completions of prompts", "keel sample runs/demo --prompt TEXT --n 4", "sample:sample"),
    Command("chat", "talk to a model", "keel chat runs/demo", "chat:chat"),
)


ALGORITHMS = (
    "grpo", "dr-grpo", "dapo", "gspo", "cispo", "rloo", "reinforce", "reinforce++", "reinforce++-baseline", "rft",
    "online-dpo",
)  # fmt: skip
"""`keel grpo` is short for `keel rl --algorithm grpo`, and so for each of these."""

ENVIRONMENT = {"GOMP_SPINCOUNT": "30000"}
"""What commands run in, unless the user has set it: how long a waiting thread of GNU OpenMP spins before it sleeps.

Spinning without end made a run three to five times slower beside busy processes, and without any a second thread gains
nothing; this is about as fast as the better of the two in either case.
"""


def main() -> None:
    """Entry point: exits with 0, 1 (a bug: traceback), 2 (a mistake in the input: one sentence), 3 (`keel check` found
    something red), 130 (Ctrl-C), 141 (nobody reads the output) or 143 (SIGTERM)."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Runs one command line and returns the exit status."""
    return ending(lambda: dispatch(argv), ["keel", *argv])


def ending(work: Callable[[], int | None], command: Sequence[str]) -> int:
    """Does the work and returns the exit status, its own where it has one; `command` is what would go on with it."""
    try:
        status = work()
        sys.stdout.flush()
    except UserError as error:
        print(f"keel: error: {error}", file=sys.stderr)
        return 2
    except Stopped as stop:
        again = shlex.join(command)
        print(f"\nkeel: stopped after step {stop.step}, which is kept. To go on:\n\n  {again}", file=sys.stderr)
        return 128 + stop.signal
    except KeyboardInterrupt:
        print("\nkeel: stopped by Ctrl-C; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status or 0


def dispatch(argv: Sequence[str]) -> int | None:
    """Calls the command that argv names, or prints help or the version; returns the command's own exit status."""
    if argv and argv[0] in ALGORITHMS:
        argv = ["rl", "--algorithm", *argv]
    name = argv[0] if argv else "--help"
    if name in {"-h", "--help", "help"}:
        print(usage())
    elif name in {"-V", "--version"}:
        print(f"keel {__version__}")
    else:
        # Loading a model takes a moment and says so with a bar; the display of the run is enough.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        for variable, value in ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        module, _, function = find(name).function.partition(":")
        status: int | None = getattr(import_module(f"keel.commands.{module}"), function)(argv[1:])
        return status
    return None


def find(name: str) -> Command:
    """The command with this name; UserError with the nearest one."""
    for command in COMMANDS:
        if command.name == name:
            return command
    from keel.data.nearest import did_you_mean

    guess = did_you_mean(name, [*(command.name for command in COMMANDS), *ALGORITHMS])
    raise UserError(f"there is no command '{name}'{guess}; `keel --help` lists them")


def usage() -> str:
    """The page of `keel --help`."""
    lines = ["Align a language model with human preferences.", "", "usage: keel COMMAND ...", ""]
    for command in COMMANDS:
        lines += [f"  {command.name:8}{command.about:42}", f"          $ {command.example}"]
    lines += [
        "",
        "keel COMMAND --help says more. `keel grpo`, `keel rloo` and kin are short for",
        "`keel rl --algorithm NAME`. Start with `keel demo`.",
    ]
    return "\n".join(line.rstrip() for line in lines)
