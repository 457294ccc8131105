"""models pull and --model org/name: the hub's protocol, its faults, the cache."""

import json
import os
import pty
import random
import signal
import subprocess
import sys
import time

import pytest

from conftest import PROGRAM
from hub_cache import FILES, WANTED, WEIGHTS, cache, hub  # noqa: F401  fixtures
from hub_server import Hub, git_id

NAME = "model.safetensors"


def good(cache, hub, repo, **extra):
    """Pulls, and everything is there."""
    done = cache.pull(hub, **extra)
    assert done.code == 0, done.err
    assert done.text == f"{cache.snapshot(repo)}\n"
    assert cache.files(repo) == {p: FILES[p] for p in WANTED}
    assert not [b for b in cache.blobs() if b.endswith(".incomplete")]
    return done


# ---- what is fetched, and where it lies ------------------------------------------

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


# ---- loading by name ---------------------------------------------------------------

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


# ---- faults --------------------------------------------------------------------------

@pytest.mark.parametrize("tenth", range(10))
def test_cut_and_resumed(cache, hub, tenth):
    repo = hub.add("org/name", FILES)
    cut = len(WEIGHTS) * tenth // 10
    hub.fault(NAME, drop_after=cut)
    good(cache, hub, repo)
    asked = [r[2].get("Range") for r in hub.asked(NAME) if "resolve" in r[1]]
    assert asked[0] is None and len(asked) == 2
    assert asked[1] == (f"bytes={cut}-" if cut else None)


def test_cut_again_and_again(cache, hub):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, drop_after=50_000, times=4)
    good(cache, hub, repo)


def test_gives_up_and_goes_on_later(cache, hub):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, drop_after=1000, times=-1)
    line = cache.fails(hub, "models", "pull", "org/name")
    assert NAME in line and "gave up" in line
    partial = cache.folder() / f"blobs/{repo.etag(NAME)}.incomplete"
    assert partial.read_bytes() == WEIGHTS[:5000]
    assert NAME not in cache.files(repo)
    hub.faults.clear()
    hub.requests.clear()
    good(cache, hub, repo)
    assert [r[2]["Range"] for r in hub.asked(NAME)] == ["bytes=5000-"]


def test_stall(cache, hub):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, stall_after=100_000)
    start = time.monotonic()
    good(cache, hub, repo)
    assert time.monotonic() - start < 15


def test_silent_from_the_start(cache, hub):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, stall_after=0)
    good(cache, hub, repo)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_trouble(cache, hub, status):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, status=status, headers={"Retry-After": "1"})
    hub.fault("api:revision", status=status)
    hub.fault("api:tree", status=status)
    good(cache, hub, repo)


def test_asked_to_wait_too_long(cache, hub):
    hub.add("org/name", FILES)
    hub.fault("api:revision", status=429, headers={"Retry-After": "3600"}, times=-1)
    assert "3600" in cache.fails(hub, "models", "pull", "org/name")


def test_range_ignored(cache, hub):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, drop_after=1000)
    hub.fault(NAME, ignore_range=True)
    good(cache, hub, repo)


def test_wrong_range_answered(cache, hub):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, drop_after=1000)
    hub.fault(NAME, headers={"Content-Range": f"bytes 0-9/{len(WEIGHTS)}"})
    good(cache, hub, repo)


@pytest.mark.parametrize("resumed", [False, True])
def test_other_bytes_once(cache, hub, resumed):
    """As a proxy that answers with its own page, or a disk that lost a page."""
    repo = hub.add("org/name", FILES)
    if resumed:
        blobs = cache.folder() / "blobs"
        blobs.mkdir(parents=True)
        (blobs / f"{repo.etag(NAME)}.incomplete").write_bytes(b"\0" * 1000)
    else:
        hub.fault(NAME, body=b"x" * len(WEIGHTS))
    good(cache, hub, repo)


def test_other_bytes_always(cache, hub):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, body=b"x" * len(WEIGHTS), times=-1)
    line = cache.fails(hub, "models", "pull", "org/name")
    assert "SHA-256" in line and NAME in line
    assert repo.etag(NAME) not in cache.blobs() and NAME not in cache.files(repo)
    assert f"{repo.etag(NAME)}.incomplete" not in cache.blobs()


def test_small_file_is_hashed_too(cache, hub):
    repo = hub.add("org/name", FILES)
    hub.fault("config.json", body=b'{"model_type": "other"}', times=-1)
    line = cache.fails(hub, "models", "pull", "org/name")
    assert "config.json" in line
    hub.faults.clear()
    hub.fault("config.json", body=FILES["config.json"].replace(b"l", b"1"), times=-1)
    assert "git id" in cache.fails(hub, "models", "pull", "org/name")
    assert "config.json" not in cache.files(repo)


@pytest.mark.parametrize(
    "body", [WEIGHTS + b"more", WEIGHTS[:-1], b""], ids=["longer", "shorter", "empty"]
)
def test_other_length(cache, hub, body):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, body=body, times=-1)
    line = cache.fails(hub, "models", "pull", "org/name")
    assert str(len(WEIGHTS)) in line
    assert NAME not in cache.files(repo)


def test_changed_midway(cache, hub):
    """The file of a commit cannot change; if it does it is refused, never spliced."""
    repo = hub.add("org/name", FILES)
    old = repo.etag(NAME)
    hub.fault(NAME, drop_after=300_000)
    hub.fault(NAME, swap=WEIGHTS[::-1])
    line = cache.fails(hub, "models", "pull", "org/name")
    assert NAME in line
    assert old not in cache.blobs() and NAME not in cache.files(repo)


def test_changed_behind_the_redirect(cache):
    with Hub() as cdn, Hub(cdn=cdn) as hub:
        repo = hub.add("org/name", FILES)
        cdn.add("org/name", FILES)
        cdn.fault("cdn:" + NAME, drop_after=1000)
        old = repo.etag(NAME)
        repo.files[NAME] = WEIGHTS[::-1]
        repo.listed[NAME] = {"lfs": {"oid": old, "size": len(WEIGHTS)}}
        line = cache.fails(hub, "models", "pull", "org/name")
        assert "changed on the hub" in line


def test_no_space(cache, hub):
    repo = hub.add("org/name", FILES)
    repo.listed[NAME] = {"lfs": {"oid": "a" * 64, "size": 2**49}}
    line = cache.fails(hub, "models", "pull", "org/name")
    assert "free space" in line
    assert not hub.asked("/resolve/")


@pytest.mark.parametrize("path", [
    "../x.json", "a/../../x.json", "/etc/x.json", "a//x.json", "./x.json", "a/./x.json", "",
    "a\\x.json", "a\nx.json", "x\x00.json", "\x1b[2Jx.json", "y" * 256 + ".json",
])
def test_hostile_names(cache, hub, path):
    repo = hub.add("org/name", FILES)
    repo.listed["config.json"] = {"path": path}
    cache.fails(hub, "models", "pull", "org/name")
    assert not hub.asked("/resolve/") and not cache.blobs()


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b'{"sha": 5}', b'{"sha": "main"}', b'{"sha": "../../x"}',
    b'{"sha": "%s"}' % (b"A" * 40), b"[" * 100_000, b"\xff\xfe",
])
def test_hostile_info(cache, hub, body):
    hub.add("org/name", FILES)
    hub.fault("api:revision", body=body or b" ", times=-1)
    assert "hub's answer" in cache.fails(hub, "models", "pull", "org/name")


@pytest.mark.parametrize("change", [
    {"size": -1}, {"size": 2**60}, {"size": 1e3}, {"size": "5"}, {"oid": "x"}, {"oid": None},
    {"oid": "../" + "0" * 37}, {"lfs": {"oid": "short", "size": 5}}, {"lfs": {"size": 5}},
    {"lfs": 5}, {"path": 5}, {"type": None}, {"path": "tokenizer.json"},
    {"path": "tokenizer.json/x.json"},
])
def test_hostile_entries(cache, hub, change):
    repo = hub.add("org/name", FILES)
    repo.listed["config.json"] = change
    assert "hub's answer" in cache.fails(hub, "models", "pull", "org/name")
    assert not hub.asked("/resolve/") and not cache.blobs()


def test_endless_listing(cache, hub):
    hub.add("org/name", FILES)
    hub.fault("api:tree", body=b" " * (40 << 20), times=-1)
    assert "at most" in cache.fails(hub, "models", "pull", "org/name")


@pytest.mark.parametrize("reference", [
    "org/../name", "../name", "a/b/c", "org/na--me", ".org/name", "org/" + "x" * 300,
    "org/name@../main", "org/name@", "org/name@a:b:c", "org/name:../x", "org\\x/y",
])
def test_hostile_references(cache, hub, reference):
    cache.fails(hub, "models", "pull", reference)
    cache.fails(hub, "inspect", "--model", reference)
    assert hub.requests == []


def test_link_in_the_snapshot(cache, hub, tmp_path):
    repo = hub.add("org/name", FILES)
    outside = tmp_path / "outside"
    outside.mkdir()
    cache.snapshot(repo).mkdir(parents=True)
    (cache.snapshot(repo) / "sub").symlink_to(outside)
    assert "link" in cache.fails(hub, "models", "pull", "org/name")
    assert list(outside.iterdir()) == []


def test_link_instead_of_a_partial_file(cache, hub, tmp_path):
    repo = hub.add("org/name", FILES)
    outside = tmp_path / "outside"
    outside.write_text("precious")
    blobs = cache.folder() / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{repo.etag(NAME)}.incomplete").symlink_to(outside)
    cache.fails(hub, "models", "pull", "org/name")
    assert outside.read_text() == "precious"


# ---- tokens and other hosts ------------------------------------------------------------

def test_token_goes_to_the_hub_only(cache):
    with Hub() as cdn, Hub(cdn=cdn, token="hf_secret") as hub:
        repo = hub.add("org/name", FILES)
        cdn.add("org/name", FILES)
        good(cache, hub, repo, HF_TOKEN="hf_secret")
        assert all(r[2]["Authorization"] == "Bearer hf_secret" for r in hub.requests)
        assert len(cdn.requests) == 1
        assert "Authorization" not in cdn.requests[0][2]
        cdn.requests.clear()
        hub.fault("config.json", redirect=cdn.url + "/org/name/resolve/main/config.json")
        cdn.add("org/name", FILES)
        (cache.snapshot(repo) / "config.json").unlink()
        for blob in cache.folder().glob("blobs/" + repo.etag("config.json")):
            blob.unlink()
        cache.pull(hub, HF_TOKEN="hf_secret")
        assert cdn.requests and all("hf_secret" not in str(r) for r in cdn.requests)


def test_next_page_of_another_host(cache):
    with Hub() as other, Hub(token="hf_secret") as hub:
        hub.add("org/name", FILES)
        hub.fault("api:tree", headers={"Link": f'<{other.url}/x>; rel="next"'})
        assert "another" in cache.fails(hub, "models", "pull", "org/name", HF_TOKEN="hf_secret")
        assert other.requests == []


def test_resumed_behind_a_redirect(cache):
    with Hub() as cdn, Hub(cdn=cdn) as hub:
        repo = hub.add("org/name", FILES)
        cdn.add("org/name", FILES)
        cdn.fault("cdn:" + NAME, drop_after=1234)
        good(cache, hub, repo)
        assert [r[2].get("Range") for r in cdn.requests] == [None, "bytes=1234-"]
        assert cdn.requests[1][2]["If-Range"].startswith('"')


@pytest.mark.parametrize("target", [
    "file:///etc/passwd", "ftp://127.0.0.1/x", "http://user:word@127.0.0.1/x", "gopher://x", "::"])
def test_redirects_that_are_not_followed(cache, hub, target):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, redirect=target, times=-1)
    assert NAME in cache.fails(hub, "models", "pull", "org/name")
    assert NAME not in cache.files(repo)


def test_redirects_without_end(cache, hub):
    hub.add("org/name", FILES)
    here = f"{hub.url}/org/name/resolve/main/{NAME}"
    hub.fault(NAME, redirect=here, times=-1)
    assert "redirects" in cache.fails(hub, "models", "pull", "org/name")
    assert len(hub.asked(NAME)) < 20


def test_private(cache):
    with Hub(token="hf_secret") as hub:
        repo = hub.add("org/name", FILES)
        line = cache.fails(hub, "models", "pull", "org/name")
        assert "HF_TOKEN" in line and "401" in line
        line = cache.fails(hub, "models", "pull", "org/name", HF_TOKEN="hf_wrong")
        assert "hf_wrong" not in line
        home = cache.home / "hf"
        home.mkdir()
        (home / "token").write_text("hf_secret\n")
        good(cache, hub, repo)
        assert "401" in cache.fails(hub, "models", "pull", "org/other",
                                    HF_HUB_DISABLE_IMPLICIT_TOKEN="1")


def test_token_that_would_break_the_header(cache, hub):
    line = cache.fails(hub, "models", "pull", "org/name", HF_TOKEN="a\r\nX-Evil: 1")
    assert "HF_TOKEN" in line and "Evil" not in line and hub.requests == []


def test_gated(cache, hub):
    hub.add("org/name", FILES)
    hub.fault("config.json", status=403, headers={"X-Error-Code": "GatedRepo"}, times=-1)
    line = cache.fails(hub, "models", "pull", "org/name")
    assert "gated" in line and f"{hub.url}/org/name" in line


def test_unknown_model(cache, hub):
    line = cache.fails(hub, "generate", "--model", "org/nane", "-p", "x")
    assert "org/nane" in line and "404" in line


def test_nobody_listens(cache):
    with Hub() as hub:
        gone = hub.url
    hub.url = gone
    line = cache.fails(hub, "models", "pull", "org/name")
    assert "gave up" in line


@pytest.mark.parametrize("endpoint", ["ftp://x", "huggingface.co:x", "file:///tmp"])
def test_wrong_endpoint(cache, hub, endpoint):
    hub.url = endpoint
    assert "HF_ENDPOINT" in cache.fails(hub, "models", "pull", "org/name")


# ---- several processes, interruptions ----------------------------------------------------

def test_two_at_once(cache):
    with Hub(rate=1_000_000) as hub:
        repo = hub.add("org/name", FILES)
        both = [cache.start(hub, "models", "pull", "org/name") for _ in range(2)]
        for process in both:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
        cache.check()
        assert cache.files(repo) == {p: FILES[p] for p in WANTED}
        assert len([r for r in hub.asked(NAME) if "/resolve/" in r[1]]) == 1


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("part", [1, 300_000, 600_000])
def test_killed_and_resumed(cache, part):
    with Hub(rate=400_000) as hub:
        repo = hub.add("org/name", FILES)
        process = cache.start(hub, "models", "pull", "org/name")
        partial = cache.folder() / f"blobs/{repo.etag(NAME)}.incomplete"
        wait_for(lambda: partial.exists() and partial.stat().st_size >= part)
        process.kill()
        process.communicate()
        cache.check()
        assert NAME not in cache.files(repo)
        have = partial.stat().st_size
        hub.rate = None
        hub.requests.clear()
        good(cache, hub, repo)
        assert [r[2]["Range"] for r in hub.asked(NAME)] == [f"bytes={have}-"]


@pytest.mark.parametrize("command", [["models", "pull"], ["generate", "-p", "x", "--model"]])
def test_ctrl_c(cache, command):
    with Hub(rate=100_000) as hub:
        repo = hub.add("org/name", FILES)
        process = cache.start(hub, *command, "org/name")
        partial = cache.folder() / f"blobs/{repo.etag(NAME)}.incomplete"
        wait_for(lambda: partial.exists() and partial.stat().st_size > 0)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        out, err = process.communicate(timeout=20)
        assert process.returncode == 130 and out == b"" and b"interrupted" in err
        assert time.monotonic() - start < 3
        assert partial.stat().st_size > 0
        cache.check()


def test_killed_again_and_again(cache):
    """At random moments, until it is whole."""
    moments = random.Random(7)
    with Hub(rate=2_000_000) as hub:
        repo = hub.add("org/name", FILES)
        for _ in range(30):
            process = cache.start(hub, "models", "pull", "org/name")
            try:
                process.communicate(timeout=moments.uniform(0.01, 0.25))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            cache.check()
            assert set(cache.files(repo).items()) <= set(FILES.items())
        hub.rate = None
        good(cache, hub, repo)


def test_progress_on_a_terminal(cache):
    with Hub(rate=300_000) as hub:
        hub.add("org/name", FILES)
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [PROGRAM, "models", "pull", "org/name"], stdout=subprocess.DEVNULL, stderr=theirs,
            env=cache.environment(hub, TERM="xterm"))
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(ours)
        assert process.wait(20) == 0
        assert shown.count(b"\r\x1b[K") > 5 and b"|" in shown and b" left" in shown
        assert b"B/s" in shown and shown.endswith(b"\r\x1b[K")


def test_progress_off_a_terminal(cache):
    with Hub(rate=200_000) as hub:
        hub.add("org/name", FILES)
        done = cache.pull(hub)
        lines = done.err.splitlines()
        assert lines and all(line.startswith("downloading ") for line in lines)
        assert any("/s" in line and " left" in line for line in lines)
        assert "\x1b" not in done.err and "\r" not in done.err


# ---- verify, rm, repair ----------------------------------------------------------------

def test_verify_and_repair(cache, hub):
    repo = hub.add("org/name", FILES)
    good(cache, hub, repo)
    done = cache.run(hub, "models", "verify", "org/name")
    assert done.code == 0 and len(done.text.splitlines()) == len(WANTED)
    blob = cache.folder() / "blobs" / repo.etag(NAME)
    blob.write_bytes(b"x" + WEIGHTS[1:])
    done = cache.start(hub, "models", "verify", "org/name")
    out, err = done.communicate(timeout=60)
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


def test_rm_while_fetching(cache):
    with Hub(rate=100_000) as hub:
        repo = hub.add("org/name", FILES)
        process = cache.start(hub, "models", "pull", "org/name")
        partial = cache.folder() / f"blobs/{repo.etag(NAME)}.incomplete"
        wait_for(lambda: partial.exists() and partial.stat().st_size > 0)
        assert "another process" in cache.fails(hub, "models", "rm", "org/name")
        process.kill()
        process.communicate()
        assert cache.run(hub, "models", "rm", "org/name").code == 0
        assert not cache.folder().exists()


# ---- shared with Python --------------------------------------------------------------------

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
                              timeout=60)
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


def test_file_names_are_quoted(cache, hub):
    odd = {"a b#c%20?.json": b"{}", "ü.json": b"[]", "config.json": b"{}", NAME: b"x"}
    repo = hub.add("org/name", odd)
    assert cache.pull(hub).code == 0
    assert cache.files(repo) == odd


def test_hashes_of_the_server():
    assert git_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
