"""models pull and --model org/name: what is fetched, where it lies, what keeps it."""

import json
import os

import pytest

from conftest import until
from hub_cache import FILES, NAME, WANTED, WEIGHTS, cache, good, hub  # noqa: F401  fixtures
from hub_server import Hub


def test_pull(cache, hub):
    repo = hub.add("org/name", FILES)
    good(cache, hub, repo)
    assert (cache.folder() / "refs/main").read_text() == repo.commit
    link = cache.snapshot(repo) / NAME
    assert os.readlink(link) == f"../../blobs/{repo.etag(NAME)}"
    assert os.readlink(cache.snapshot(repo) / "sub/notes.txt").startswith("../../../blobs/")
    assert (cache.path / "CACHEDIR.TAG").exists()
    tree = json.loads((cache.folder() / f"trees/{repo.commit}.json").read_text())
    assert tree["format_version"] == 1 and set(tree["files"]) == set(FILES)
    before = len(hub.requests)
    good(cache, hub, repo)
    assert len(hub.requests) == before + 1  # which commit is it now


def test_include(cache, hub):
    repo = hub.add("org/name", FILES)
    assert cache.pull(hub, "org/name", "--include", "*.md", "sub/*").code == 0
    assert set(cache.files(repo)) == {"README.md", "sub/notes.txt"}
    assert "*.zip" in cache.fails(hub, "models", "pull", "org/name", "--include", "*.zip")


def test_index_chooses_the_weights(cache, hub):
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    files = {"config.json": b"{}", "part-1.safetensors": b"1", "part-2.safetensors": b"2",
             "model-extra.safetensors": b"3",
             "model.safetensors.index.json": json.dumps(index).encode()}
    repo = hub.add("org/name", files)
    assert cache.pull(hub).code == 0
    assert set(cache.files(repo)) == set(files) - {"model-extra.safetensors"}


@pytest.mark.parametrize("reference, expected", [
    ("org/name", {"m-Q4_K_M.gguf"}),
    ("org/name:Q8_0", {"m-Q8_0.gguf"}),
    ("org/name:q4_k", {"m-Q4_K.gguf"}),
    ("org/name:m-Q8_0.gguf@main", {"m-Q8_0.gguf"}),
    ("org/name:BF16", {"BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf"}),
])
def test_gguf_variants(cache, hub, reference, expected):
    files = {p: p.encode() for p in (
        "m-Q4_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-f16.gguf", "config.json",
        "BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf")}
    repo = hub.add("org/name", files)
    done = cache.pull(hub, reference)
    assert done.code == 0, done.err
    assert set(cache.files(repo)) == expected
    listed = cache.run(hub, "models", "list", "--json").json
    assert [m["complete"] for m in listed if m["reference"].startswith("org/")] == [True]


def test_unknown_variant(cache, hub):
    hub.add("org/name", {"m-Q8_0.gguf": b"x"})
    assert "m-Q8_0.gguf" in cache.fails(hub, "models", "pull", "org/name:Q2_K")


def test_revisions(cache, hub):
    repo = hub.add("org/name", FILES, revisions=("v1", "refs/pr/3"))
    assert "no such revision" in cache.fails(hub, "models", "pull", "org/name")
    assert cache.pull(hub, "org/name@v1").code == 0
    assert cache.pull(hub, "org/name@refs/pr/3").code == 0
    assert cache.pull(hub, f"org/name@{repo.commit}").code == 0
    assert (cache.folder() / "refs/refs/pr/3").read_text() == repo.commit
    names = {m["reference"] for m in cache.run(hub, "models", "list", "--json").json}
    assert {"org/name@v1", "org/name@refs/pr/3"} <= names


def test_pages(cache):
    with Hub(page=2) as hub:
        good(cache, hub, hub.add("org/name", FILES))
        assert len(hub.asked("/tree/")) == 5


def test_update_keeps_the_old_until_the_new_is_whole(cache, hub):
    old = hub.add("org/name", FILES)
    good(cache, hub, old)
    new = hub.add("org/name", {**FILES, NAME: WEIGHTS[::-1]})
    hub.fault(NAME, status=403, times=-1)
    cache.fails(hub, "models", "pull", "org/name")
    assert (cache.folder() / "refs/main").read_text() == old.commit
    hub.faults.clear()
    assert cache.pull(hub).code == 0
    assert (cache.folder() / "refs/main").read_text() == new.commit
    before = cache.blobs()
    assert cache.run(hub, "models", "rm", f"org/name@{old.commit}").code == 0
    assert before - cache.blobs() == {old.etag(NAME)}
    assert set(cache.files(new)) == WANTED


def test_without_symlinks(cache, hub):
    repo = hub.add("org/name", FILES)
    good(cache, hub, repo, HF_HUB_DISABLE_SYMLINKS="1")
    assert not any(p.is_symlink() for p in cache.snapshot(repo).rglob("*"))
    before = len(hub.requests)
    good(cache, hub, repo, HF_HUB_DISABLE_SYMLINKS="1")
    assert len(hub.requests) == before + 1
    assert cache.run(hub, "models", "verify", "org/name").code == 0


def test_file_names_are_quoted(cache, hub):
    odd = {"a b#c%20?.json": b"{}", "ü.json": b"[]", "config.json": b"{}", NAME: b"x"}
    repo = hub.add("org/name", odd)
    assert cache.pull(hub).code == 0
    assert cache.files(repo) == odd


# ---- loading by name -------------------------------------------------------------------

def test_generate_fetches(cache, hub, checkpoint):
    folder = checkpoint()
    hub.add("org/name", {p.name: p.read_bytes() for p in folder.iterdir()})
    ask = ["generate", "--model", "org/name", "-p", "abc", "-m", "4", "--verbose", "false"]
    first = cache.run(hub, *ask)
    assert first.code == 0, first.err
    assert first.out == cache.run(hub, "generate", "--model", folder, *ask[3:]).out
    before = len(hub.requests)
    assert cache.run(hub, *ask).out == first.out
    assert cache.run(None, *ask, HF_HUB_OFFLINE="1").out == first.out
    assert len(hub.requests) == before  # what is here is used as it is


def test_tokenize_fetches_no_weights(cache, hub, checkpoint):
    repo = hub.add("org/name", {p.name: p.read_bytes() for p in checkpoint().iterdir()})
    assert cache.run(hub, "tokenize", "--model", "org/name").text == "[]\n"
    assert NAME not in cache.files(repo)
    listed = {m["reference"]: m for m in cache.run(hub, "models", "list", "--json").json}
    assert not listed["org/name"]["complete"]
    assert "org/name" in cache.fails(None, "inspect", "org/name", HF_HUB_OFFLINE="1")
    assert cache.run(hub, "inspect", "org/name").code == 0
    assert NAME in cache.files(repo)


def test_offline_opens_no_socket(cache, hub):
    hub.add("org/name", FILES)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        for command in (["models", "pull"], ["inspect"]):
            line = cache.fails(hub, *command, "org/name", **{name: "YES"})
            assert "HF_HUB_OFFLINE" in line
    assert hub.requests == []


# ---- verify, rm, repair ----------------------------------------------------------------

def test_verify_and_repair(cache, hub):
    repo = hub.add("org/name", FILES)
    good(cache, hub, repo)
    done = cache.run(hub, "models", "verify", "org/name")
    assert done.code == 0 and len(done.text.splitlines()) == len(WANTED)
    blob = cache.folder() / "blobs" / repo.etag(NAME)
    blob.write_bytes(b"x" + WEIGHTS[1:])
    done = cache.start(hub, "models", "verify", "org/name")
    out, err = done.communicate(timeout=120)
    assert done.returncode == 1 and b"damaged model.safetensors" in out and b"--check" in err
    out, err = cache.start(hub, "models", "verify", "org/name", "--json").communicate()
    assert [f["file"] for f in json.loads(out) if f["problem"]] == [NAME]
    assert cache.pull(hub, "org/name", "--check").code == 0
    assert blob.read_bytes() == WEIGHTS
    blob.write_bytes(WEIGHTS[:100])  # another size is noticed without --check
    good(cache, hub, repo)


def test_rm(cache, hub):
    good(cache, hub, hub.add("org/name", FILES))
    assert "did you mean org/name" in cache.fails(hub, "models", "rm", "org/nane")
    assert cache.run(hub, "models", "rm", "org/name").code == 0
    assert not cache.folder().exists() and cache.path.exists()


def test_rm_while_fetching(cache, hub):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, stall_after=1000, times=-1)
    process = cache.start(hub, "models", "pull", "org/name")
    partial = cache.folder() / f"blobs/{repo.etag(NAME)}.incomplete"
    until(lambda: partial.exists() and partial.stat().st_size > 0)
    assert "another process" in cache.fails(hub, "models", "rm", "org/name")
    process.kill()
    process.communicate()
    assert cache.run(hub, "models", "rm", "org/name").code == 0
    assert not cache.folder().exists()
