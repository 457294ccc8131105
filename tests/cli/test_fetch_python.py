"""The cache shared with Python's huggingface_hub."""

import json
import subprocess
import sys

import pytest

from hub_cache import FILES, NAME, WANTED, WEIGHTS, cache, good, hub  # noqa: F401  fixtures

PATTERNS = ["*.json", "model*.safetensors", "*.py", "tokenizer.model", "*.tiktoken",
            "tiktoken.model", "*.txt", "*.jsonl", "*.jinja"]  # mlx-lm's


@pytest.fixture
def python(cache):
    """Runs lines of Python that use huggingface_hub as `h`; its last value comes back."""
    pytest.importorskip("huggingface_hub")

    def run(hub, code, **extra):
        env = cache.environment(hub, HF_HUB_DISABLE_XET="1", **extra)
        code = ("import json, huggingface_hub as h\nout = None\n" + code +
                "\nprint(json.dumps(out))")
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True,
                              timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout.splitlines()[-1])
    return run


SCAN = """
found = h.scan_cache_dir()
assert not found.warnings, found.warnings
(model,) = found.repos
(revision,) = model.revisions
out = [model.repo_id, model.repo_type, model.size_on_disk, revision.commit_hash,
       sorted(revision.refs), sorted(f.file_name for f in revision.files)]
"""


def test_python_reads_ours(cache, hub, python):
    repo = hub.add("org/name", FILES)
    good(cache, hub, repo)
    assert python(None, SCAN) == [
        "org/name", "model", sum(len(FILES[p]) for p in WANTED), repo.commit, ["main"],
        sorted(p.split("/")[-1] for p in WANTED)]
    read = (f"a = h.snapshot_download('org/name', local_files_only=True, "
            f"allow_patterns={PATTERNS})\n"
            f"b = h.hf_hub_download('org/name', '{NAME}')\nout = [a, b]")
    folder, file = python(None, read, HF_HUB_OFFLINE="1")
    assert folder == str(cache.snapshot(repo))
    assert open(file, "rb").read() == WEIGHTS


def test_python_goes_on_from_ours(cache, hub, python):
    repo = hub.add("org/name", FILES)
    good(cache, hub, repo)
    hub.requests.clear()
    python(hub, "h.snapshot_download('org/name')")
    assert not hub.asked(NAME)  # no second copy of the weights
    assert set(cache.files(repo)) == set(FILES)


@pytest.mark.parametrize("patterns", [None, PATTERNS], ids=["all", "mlx-lm"])
def test_we_read_pythons(cache, hub, python, checkpoint, patterns):
    hub.add("org/name", {p.name: p.read_bytes() for p in checkpoint().iterdir()})
    python(hub, f"h.snapshot_download('org/name', allow_patterns={patterns})")
    before = len(hub.requests)
    listed = cache.run(hub, "models", "list", "--json").json
    assert {"org/name": True}.items() <= {m["reference"]: m["complete"] for m in listed}.items()
    done = cache.run(hub, "generate", "--model", "org/name", "-p", "abc", "-m", "2")
    assert done.code == 0, done.err
    assert cache.run(hub, "models", "verify", "org/name").code == 0
    assert len(hub.requests) == before
