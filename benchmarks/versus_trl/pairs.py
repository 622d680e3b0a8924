"""Runs both sides of a workload as processes of their own, ours and the peer's by turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.versus_trl import environments, machine, settings
from benchmarks.versus_trl.environments import Peer
from benchmarks.versus_trl.inputs import Inputs
from benchmarks.versus_trl.limits import Limits
from benchmarks.versus_trl.measure import Measurement
from benchmarks.versus_trl.result import Result, compare
from benchmarks.versus_trl.settings import Best, Choice
from benchmarks.versus_trl.workloads import Workload

PATIENCE = 900.0
"""Seconds after which a setting that is tried counts as one that does not run."""
_PACKAGE = "benchmarks.versus_trl"


@dataclass(frozen=True)
class Plan:
    """How a workload is measured: pairs of processes, and laps in each (None = the workload's own)."""

    pairs: int
    steps: int | None = None
    warmup: int | None = None

    def laps(self, workload: Workload) -> list[str]:
        """As both sides take them."""
        steps = workload.steps if self.steps is None else self.steps
        warmup = workload.warmup if self.warmup is None else self.warmup
        return ["--steps", str(steps), "--warmup", str(warmup)]


@dataclass(frozen=True)
class Opponent:
    """The peer of a run: its name, its environment, and the file of its best settings."""

    name: str
    peer: Peer
    memory: Path

    @property
    def module(self) -> str:
        """What its Python runs."""
        return "vllm_peer" if self.name == "vllm" else "peer"

    def measure(
        self,
        workload: Workload,
        inputs: Inputs,
        model: str,
        choice: Choice,
        laps: Sequence[str],
        timeout: float | None = None,
    ) -> Measurement:
        """What a process of the peer's finds."""
        rest = [*choice.arguments(), *laps]
        if workload.kind == "ppo":
            rest += ["--overlay", str(self.peer.overlay)]
        arguments = [str(inputs.folder), workload.name, model, *rest]
        environment = environments.peers(os.environ, choice.wait)
        return Measurement.read(_run(self.peer.python, self.module, arguments, environment, timeout))

    def best(self, workload: Workload, inputs: Inputs, model: str) -> Best:
        """Its best setting for a workload, tried or remembered. PPO's steps are long enough to need no warm-up."""
        laps = Plan(1, 1, 0 if workload.kind == "ppo" else 1).laps(workload)

        def attempt(choice: Choice) -> Measurement | None:
            try:
                return self.measure(workload, inputs, model, choice, laps, PATIENCE)
            except (subprocess.SubprocessError, ValueError) as error:
                print(f"  {error}", file=sys.stderr)
                return None

        where = f"{machine.this().fingerprint} {inputs.folder.name} {environments.TORCH} {environments.TRL}"
        key = f"{where} {self.name} {workload.name} {model}"
        return settings.remembered(self.memory, key, lambda: settings.find(workload, attempt))


def measure(workload: Workload, inputs: Inputs, model: str, plan: Plan, opponent: Opponent, limits: Limits) -> Result:
    """The peer's best setting first, then the pairs: ours, peer, ours, peer, …"""
    best = opponent.best(workload, inputs, model)
    laps = plan.laps(workload)
    arguments = [str(inputs.folder), workload.name, model, *laps]
    found: list[tuple[Measurement, Measurement]] = []
    for number in range(1, plan.pairs + 1):
        ours = Measurement.read(_run(Path(sys.executable), "ours", arguments, environments.ours(os.environ)))
        theirs = opponent.measure(workload, inputs, model, best.choice, laps)
        print(
            f"  {workload.name} {model}, pair {number} of {plan.pairs}: ours {ours.tokens_per_s:.0f} tokens/s,"
            f" {opponent.name} {theirs.tokens_per_s:.0f}",
            file=sys.stderr,
        )
        found.append((ours, theirs))
    return compare(workload, found, limits, best.least_mb, opponent.name, asdict(machine.this()))


def limits_of(inputs: Inputs, model: str, batch: int) -> Limits:
    """The machine's limits for one model, measured in a process of their own."""
    arguments = [str(inputs.folder), model, str(batch)]
    output = _run(Path(sys.executable), "limits", arguments, environments.ours(os.environ))
    return Limits(**json.loads(output.strip().splitlines()[-1]))


def _run(
    python: Path,
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    timeout: float | None = None,
) -> str:
    """What a process printed; SubprocessError, after its last words, where it fails or takes too many seconds."""
    done = subprocess.run(
        [str(python), "-m", f"{_PACKAGE}.{module}", *arguments],
        env=dict(environment),
        cwd=environments.ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        done.check_returncode()
    return done.stdout
