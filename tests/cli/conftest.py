"""The program as a user calls it: MLXLM names the binary."""

import json
import os
import resource
import struct
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("MLXLM", str(ROOT / "build/release/mlxlm"))
PATIENCE = 120  # seconds: a busy machine may take many times longer than a quiet one


def until(condition, seconds=PATIENCE):
    """Waits until something is so; what it is then."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def processor_seconds(work):
    """What the programs that `work` runs take of the processor, the least of several
    times: what else the machine does takes none of it."""
    def once():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        work()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return min(once() for _ in range(10))


class Result:
    def __init__(self, done):
        self.code, self.out = done.returncode, done.stdout
        self.err = done.stderr.decode(errors="replace")

    @property
    def text(self):
        return self.out.decode()

    @property
    def json(self):
        return json.loads(self.out)


def environment(extra):
    keep = {k: v for k, v in os.environ.items()
            if not k.startswith("MLXLM_") or k == "MLXLM_DEPS"}
    keep["XDG_CONFIG_HOME"] = "/nonexistent"
    keep.setdefault("MLXLM_DEPS", str(ROOT / ".deps"))
    keep["HF_HUB_OFFLINE"] = "1"  # test_fetch*.py have a hub of its own
    return {**keep, **extra}


@pytest.fixture
def mlxlm():
    """Runs the program; returns exit code, standard output and error."""
    def run(*arguments, stdin=b"", timeout=PATIENCE, **extra):
        if isinstance(stdin, str):
            stdin = stdin.encode()
        return Result(subprocess.run(
            [PROGRAM, *map(str, arguments)], input=stdin, capture_output=True,
            timeout=timeout, env=environment(extra)))
    return run


@pytest.fixture
def fails(mlxlm):
    """Runs what must fail: one line on standard error, nothing on standard output."""
    def run(*arguments, code=1, **options):
        done = mlxlm(*arguments, **options)
        assert done.code == code, done.err
        assert done.out == b""
        lines = done.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("mlxlm: "), done.err
        assert "terminate" not in done.err
        return lines[0]
    return run


@pytest.fixture
def program():
    return PROGRAM


# ---- checkpoints small enough to write here ------------------------------------

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 16,
    "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 32, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64, "tie_word_embeddings": True, "eos_token_id": 1,
}
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def shapes(config):
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    kv = head * config["num_key_value_heads"]
    layer = "model.layers.0."
    return {
        "model.embed_tokens.weight": [config["vocab_size"], hidden],
        "model.norm.weight": [hidden],
        layer + "input_layernorm.weight": [hidden],
        layer + "post_attention_layernorm.weight": [hidden],
        layer + "self_attn.q_proj.weight": [hidden, hidden],
        layer + "self_attn.k_proj.weight": [kv, hidden],
        layer + "self_attn.v_proj.weight": [kv, hidden],
        layer + "self_attn.o_proj.weight": [hidden, hidden],
        layer + "mlp.gate_proj.weight": [inner, hidden],
        layer + "mlp.up_proj.weight": [inner, hidden],
        layer + "mlp.down_proj.weight": [hidden, inner],
    }


def safetensors(tensors):
    """{name: shape} as a file of float32 values that differ from each other."""
    header, data = {}, b""
    for name, shape in tensors.items():
        count = 1
        for size in shape:
            count *= size
        values = [((i * 37 + len(name) * 11) % 61 - 30) / 100 for i in range(count)]
        header[name] = {"dtype": "F32", "shape": shape,
                        "data_offsets": [len(data), len(data) + 4 * count]}
        data += struct.pack(f"<{count}f", *values)
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + data


def tokenizer(vocab):
    """One token a letter, behind <unk> and </s>."""
    words = ["<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz .!?"][:vocab]
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "post_processor": None, "pre_tokenizer": None, "decoder": {"type": "Fuse"},
        "added_tokens": [
            {"id": i, "content": words[i], "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": True} for i in (0, 1)],
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>",
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "merges": [],
                  "vocab": {w: i for i, w in enumerate(words)}},
    }


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a tiny Llama; arguments change its config and its files."""
    def write(name="model", template=TEMPLATE, without=(), files=None, **changes):
        folder = tmp_path / name
        folder.mkdir()
        config = {**CONFIG, **changes}
        content = {
            "config.json": json.dumps(config),
            "tokenizer.json": json.dumps(tokenizer(CONFIG["vocab_size"])),
            "tokenizer_config.json": json.dumps(
                {"chat_template": template, "eos_token": "</s>"}),
            "model.safetensors": safetensors(shapes(CONFIG)),
            **(files or {})}
        for file, data in content.items():
            if file not in without:
                (folder / file).write_bytes(
                    data if isinstance(data, bytes) else data.encode())
        return folder
    return write
