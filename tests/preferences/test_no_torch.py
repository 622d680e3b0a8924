"""Whoever labels needs no torch."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys
import keel.preferences
walked = pkgutil.walk_packages(keel.preferences.__path__, "keel.preferences.")
names = [module.name for module in walked if ".migrations." not in module.name]  # scripts that Alembic runs
for name in names:
    importlib.import_module(name)
print(len(names), sorted(name for name in ("torch", "transformers", "datasets") if name in sys.modules))
"""


def test_preferences_import_no_torch() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=True)
    count, found = ran.stdout.split(maxsplit=1)
    assert int(count) >= 10
    assert found.strip() == "[]"
