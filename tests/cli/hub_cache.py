"""A cache folder and the program run on it against a hub of this machine."""

import hashlib
import random
import subprocess

import pytest

from conftest import PATIENCE, PROGRAM, Result, environment
from hub_server import Hub

NAME = "model.safetensors"
WEIGHTS = random.Random(1).randbytes(700_000)
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b'{"version": "1.0"}' + b" " * 5000,
    "tokenizer_config.json": b"{}",
    "sub/notes.txt": b"a file in a folder\n",
    "empty.txt": b"",
    NAME: WEIGHTS,
    "README.md": b"not needed to run",
    "pytorch_model.bin": b"never fetched",
    ".gitattributes": b"*.bin filter=lfs",
}
WANTED = {p for p in FILES if p not in ("README.md", "pytorch_model.bin", ".gitattributes")}


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


class Cache:
    """A cache folder, the program run on it, and what must always hold of it."""

    def __init__(self, path):
        self.path = path / "hub"
        self.home = path

    def environment(self, hub, **extra):
        """What stalls is waited for half a minute, where a test does not say otherwise."""
        env = {**environment({}), "HF_HUB_CACHE": str(self.path),
               "HF_HOME": str(self.home / "hf"), "HF_ENDPOINT": hub.url if hub else "",
               "HF_HUB_DOWNLOAD_TIMEOUT": "30", "HF_HUB_ETAG_TIMEOUT": "30",
               "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        env.pop("HF_HUB_OFFLINE", None)
        env.pop("HF_TOKEN", None)
        return {**env, **extra}

    def start(self, hub, *arguments, **extra):
        return subprocess.Popen([PROGRAM, *map(str, arguments)],
                                env=self.environment(hub, **extra),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, hub, *arguments, timeout=PATIENCE, **extra):
        done = Result(subprocess.run(
            [PROGRAM, *map(str, arguments)], capture_output=True, timeout=timeout,
            stdin=subprocess.DEVNULL, env=self.environment(hub, **extra)))
        self.check()
        return done

    def pull(self, hub, reference="org/name", *more, **extra):
        return self.run(hub, "models", "pull", reference, *more, **extra)

    def fails(self, hub, *arguments, **extra):
        done = self.run(hub, *arguments, **extra)
        assert done.code == 1 and done.out == b"", (done.out, done.err)
        line = done.err.strip().splitlines()[-1]
        assert line.startswith("mlxlm: "), done.err
        return line

    def folder(self, reference="org/name"):
        return self.path / ("models--" + reference.replace("/", "--"))

    def blobs(self, reference="org/name"):
        folder = self.folder(reference) / "blobs"
        return {p.name for p in folder.iterdir()} if folder.exists() else set()

    def snapshot(self, repo, reference="org/name"):
        return self.folder(reference) / "snapshots" / repo.commit

    def files(self, repo, reference="org/name"):
        root = self.snapshot(repo, reference)
        return {p.relative_to(root).as_posix(): p.read_bytes()
                for p in root.rglob("*") if p.is_file()} if root.exists() else {}

    def check(self):
        """Whatever happened: a blob's content is what its name says."""
        for blob in self.path.glob("models--*/blobs/*"):
            if blob.name.endswith(".incomplete"):
                continue
            data = blob.read_bytes()
            expected = (hashlib.sha256(data) if len(blob.name) == 64 else
                        hashlib.sha1(b"blob %d\0" % len(data) + data)).hexdigest()
            assert blob.name == expected
        for link in self.path.glob("models--*/snapshots/*/**/*"):
            if not link.is_dir():
                assert link.exists(), f"{link} leads nowhere"
                assert self.path.resolve() in link.resolve().parents


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path)


def good(cache, hub, repo, **extra):
    """Pulls, and everything is there."""
    done = cache.pull(hub, **extra)
    assert done.code == 0, done.err
    assert done.text == f"{cache.snapshot(repo)}\n"
    assert cache.files(repo) == {p: FILES[p] for p in WANTED}
    assert not [b for b in cache.blobs() if b.endswith(".incomplete")]
    return done
