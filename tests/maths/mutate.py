"""Breaks each function of `keel.maths` on purpose, one line at a time, and asks whether its tests notice.

    python tests/maths/mutate.py              every mutation of mutations.py; some ten minutes
    python tests/maths/mutate.py losses.ppo   those whose name begins so
    python tests/maths/mutate.py --jobs 2     two at a time

Each mutation is made in a copy of `src/keel/maths`, which stands first on the path, and must make
`test_<module>.py` fail. A mutation with `same_because` changes no result: it is run as well and must
pass, so that the reason given for it is more than an opinion. Exit status 1 where an expectation fails.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutations import MUTATIONS, Mutation

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parents[1]
PACKAGE = ROOT / "src" / "keel"


def copy_package(folder: Path) -> Path:
    """A keel in `folder` that holds only the maths; returns where the maths are."""
    (folder / "keel").mkdir()
    shutil.copy(PACKAGE / "__init__.py", folder / "keel")
    ignore = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PACKAGE / "maths", folder / "keel" / "maths", ignore=ignore))


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the keel in `folder` before the installed one; no byte code, which could be stale."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def check_the_copy_is_imported_and_passes(modules: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        maths = copy_package(Path(temporary))
        found = python(Path(temporary), "-c", "import keel.maths; print(keel.maths.__file__)").stdout.strip()
        if Path(found).resolve() != (maths / "__init__.py").resolve():
            sys.exit(f"the tests would import {found}, not the mutated copy")
        for module in modules:
            if run_tests(Path(temporary), module).returncode != 0:
                sys.exit(f"test_{module}.py fails before anything is mutated")


def run_tests(folder: Path, module: str) -> subprocess.CompletedProcess[str]:
    return python(folder, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(TESTS / f"test_{module}.py"))


def outcome(mutation: Mutation) -> str:
    """ "killed", "survived", or what is wrong with the mutation itself."""
    with tempfile.TemporaryDirectory() as temporary:
        path = copy_package(Path(temporary)) / f"{mutation.module}.py"
        source = path.read_text(encoding="utf-8")
        if source.count(mutation.old) != 1:
            return f"stale: {source.count(mutation.old)} places hold {mutation.old!r}"
        path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
        done = run_tests(Path(temporary), mutation.module)
    # 1 means that tests ran and failed; an import that no longer works is no evidence.
    return {0: "survived", 1: "killed"}.get(done.returncode, f"broken: {done.stdout[-300:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutate keel.maths and see whether its tests fail.")
    parser.add_argument("prefix", nargs="?", default="", help="only mutations of functions whose name begins so")
    parser.add_argument("--jobs", type=int, default=1, help="mutations at a time")
    arguments = parser.parse_args()
    chosen = [mutation for mutation in MUTATIONS if mutation.function.startswith(arguments.prefix)]
    check_the_copy_is_imported_and_passes(sorted({mutation.module for mutation in chosen}))

    unexpected = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for mutation, result in zip(chosen, pool.map(outcome, chosen), strict=True):
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
