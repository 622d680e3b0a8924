"""Breaks each function of a folder of keel on purpose, one line at a time, and asks whether its tests notice.

    python tests/mutate.py maths               every mutation of tests/maths/mutations.py; some ten minutes
    python tests/mutate.py training online     of tests/training/mutations.py, those whose name begins so
    python tests/mutate.py maths --jobs 2      two at a time

Each mutation is made in a copy of `src/keel/FOLDER`, which stands first on the path, and must make
`test_<module>.py` of that folder fail. A mutation with `same_because` changes no result: it is run as well and must
pass, so that the reason given for it is more than an opinion. Exit status 1 where an expectation fails.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mutation import Mutation

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
PACKAGE = ROOT / "src" / "keel"
ELSEWHERE = {"batches": "sft", "pairs": "preference"}
"""Modules that are tested through another."""


@dataclass(frozen=True)
class Folder:
    """A folder of the package, and of its tests."""

    name: str

    @property
    def mutations(self) -> tuple[Mutation, ...]:
        return tuple(import_module(f"{self.name}.mutations").MUTATIONS)

    def test(self, module: str) -> str:
        return str(TESTS / self.name / f"test_{ELSEWHERE.get(module, module)}.py")

    def copy(self, place: Path) -> Path:
        """A keel in `place` whose files are links, but for this folder, which is a copy; returns the copy."""
        (place / "keel").mkdir()
        for entry in PACKAGE.iterdir():
            if entry.name not in (self.name, "__pycache__"):
                (place / "keel" / entry.name).symlink_to(entry)
        ignore = shutil.ignore_patterns("__pycache__")
        return Path(shutil.copytree(PACKAGE / self.name, place / "keel" / self.name, ignore=ignore))

    def run_tests(self, place: Path, module: str) -> subprocess.CompletedProcess[str]:
        return python(place, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", self.test(module))

    def check_the_copy_is_imported_and_passes(self, modules: list[str]) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            copied = self.copy(Path(temporary))
            program = f"import keel.{self.name}; print(keel.{self.name}.__file__)"
            found = python(Path(temporary), "-c", program).stdout.strip()
            if Path(found).resolve() != (copied / "__init__.py").resolve():
                sys.exit(f"the tests would import {found}, not the mutated copy")
            for module in modules:
                if self.run_tests(Path(temporary), module).returncode != 0:
                    sys.exit(f"{self.test(module)} fails before anything is mutated")

    def outcome(self, mutation: Mutation) -> str:
        """ "killed", "survived", or what is wrong with the mutation itself."""
        with tempfile.TemporaryDirectory() as temporary:
            path = self.copy(Path(temporary)) / f"{mutation.module}.py"
            source = path.read_text(encoding="utf-8")
            if source.count(mutation.old) != 1:
                return f"stale: {source.count(mutation.old)} places hold {mutation.old!r}"
            path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
            done = self.run_tests(Path(temporary), mutation.noticed_by or mutation.module)
        # 1 means that tests ran and failed; an import that no longer works is no evidence.
        return {0: "survived", 1: "killed"}.get(done.returncode, f"broken: {done.stdout[-300:]}")


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the keel in `folder` before the installed one; no byte code, which could be stale."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutate a folder of keel and see whether its tests fail.")
    parser.add_argument("folder", choices=("maths", "training"))
    parser.add_argument("prefix", nargs="?", default="", help="only mutations of functions whose name begins so")
    parser.add_argument("--jobs", type=int, default=1, help="mutations at a time")
    arguments = parser.parse_args()
    folder = Folder(arguments.folder)
    chosen = [mutation for mutation in folder.mutations if mutation.function.startswith(arguments.prefix)]
    folder.check_the_copy_is_imported_and_passes(
        sorted({mutation.noticed_by or mutation.module for mutation in chosen})
    )

    unexpected = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for mutation, result in zip(chosen, pool.map(folder.outcome, chosen), strict=True):
            wrong = result != ("survived" if mutation.same_because else "killed")
            unexpected += wrong
            mark = "!!" if wrong else "  "
            because = f" (same: {mutation.same_because})" if mutation.same_because else ""
            print(f"{mark} {result:9} {mutation.function:28} {mutation.what}{because}", flush=True)
    same = sum(bool(mutation.same_because) for mutation in chosen)
    print(f"{len(chosen)} mutations, {same} of them equivalent, {unexpected} with an unexpected result")
    sys.exit(unexpected > 0)


if __name__ == "__main__":
    main()
