"""models pull against a hub that fails, lies or sends elsewhere."""

import time

import pytest

from hub_cache import FILES, NAME, WEIGHTS, cache, good, hub  # noqa: F401  fixtures
from hub_server import Hub, git_id


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
    good(cache, hub, repo, HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert time.monotonic() - start < 25


def test_silent_from_the_start(cache, hub):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, stall_after=0)
    good(cache, hub, repo, HF_HUB_DOWNLOAD_TIMEOUT="1")


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


def test_hashes_of_the_server():
    assert git_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
