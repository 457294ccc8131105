"""The launcher: an up-to-date call goes straight to the program, anything newer than
the build goes through scripts/build first. Both are stand-ins here."""

import os
import shutil
import subprocess
import time

import pytest

from conftest import ROOT, processor_seconds

PROGRAM = """#!/bin/sh
echo "deps=$MLXLM_DEPS"
for argument; do echo "<$argument>"; done
exit 7
"""
BUILD = """#!/bin/sh
here=$(cd "$(dirname "$0")/.." && pwd -P)
echo "built $*" >&2
echo "$here" >"$here/build/release/.current"
"""


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def tree(tmp_path):
    """A tree whose program was built a minute ago from older sources."""
    root = tmp_path.resolve() / "tree"
    (root / "src/core").mkdir(parents=True)
    (root / ".deps/venv").mkdir(parents=True)
    (root / "src/core/env.cpp").write_text("")
    shutil.copy2(ROOT / "mlxlm", root / "mlxlm")
    script(root / "build/release/mlxlm", PROGRAM)
    script(root / "scripts/build", BUILD)
    (root / "build/release/.current").write_text(f"{root}\n")
    for path in [root / "src/core/env.cpp", root / "src/core", root / "src"]:
        age(path, 3600)
    age(root / "build/release/.current", 60)
    return root


def call(path, *arguments, **options):
    return subprocess.run([path, *arguments], capture_output=True, text=True, timeout=120, **options)


def test_goes_straight_to_the_program(tree):
    done = call(tree / "mlxlm", "generate", "--prompt", "two words", "")
    assert done.stdout == f"deps={tree}/.deps\n<generate>\n<--prompt>\n<two words>\n<>\n"
    assert (done.stderr, done.returncode) == ("", 7)


def test_is_found_through_a_link_and_from_anywhere(tree, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tree / "mlxlm")
    for path, folder in [(link, tmp_path), ("../mlxlm", tree / "src"), ("./mlxlm", tree)]:
        done = call(path, cwd=folder)
        assert done.stdout.startswith(f"deps={tree}/.deps\n")
        assert done.stderr == ""


@pytest.mark.parametrize("change", ["edited", "added", "removed", "no program", "moved"])
def test_builds_first_when_something_changed(tree, change):
    if change == "edited":
        (tree / "src/core/env.cpp").write_text("x")
    elif change == "added":
        (tree / "src/new.h").write_text("")
    elif change == "removed":
        (tree / "src/core/env.cpp").unlink()
    elif change == "no program":
        shutil.copy2(tree / "build/release/mlxlm", tree / "kept")
        script(tree / "scripts/build", BUILD + 'mv "$here/kept" "$here/build/release/mlxlm"\n')
        (tree / "build/release/mlxlm").unlink()
    elif change == "moved":
        tree = tree.rename(tree.parent / "elsewhere")
    done = call(tree / "mlxlm", "x")
    assert done.stderr == "built mlxlm\n"
    assert done.stdout == f"deps={tree}/.deps\n<x>\n"


def test_a_failed_build_runs_nothing(tree):
    (tree / "src/core/env.cpp").write_text("x")
    script(tree / "scripts/build", "#!/bin/sh\necho broken >&2\nexit 3\n")
    done = call(tree / "mlxlm", "x")
    assert (done.stdout, done.stderr, done.returncode) == ("", "broken\n", 1)


def test_costs_less_than_20_ms(tree):
    """Looking at as many sources as the real tree has."""
    for folder in ["src", "include", "rust", "cmake"]:
        shutil.copytree(ROOT / folder, tree / folder, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("target"))
    (tree / "build/release/.current").touch()

    def seconds(path):
        return processor_seconds(lambda: call(path))
    assert seconds(tree / "mlxlm") - seconds(tree / "build/release/mlxlm") < 0.020
