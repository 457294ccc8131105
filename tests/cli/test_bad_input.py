"""What is wrong with a model is one line naming file and field; exit code 1."""

import json
import struct

import pytest

from conftest import CONFIG, safetensors, shapes


def generate(folder):
    return ["generate", "--model", folder, "-p", "abc", "-m", "4"]


def test_good_checkpoint(mlxlm, checkpoint):
    done = mlxlm(*generate(checkpoint()))
    assert done.code == 0, done.err


@pytest.mark.parametrize("changes, field", [
    ({"hidden_size": "16"}, "hidden_size"),
    ({"hidden_size": -16}, "hidden_size"),
    ({"hidden_size": 16.5}, "hidden_size"),
    ({"hidden_size": 10**30}, "hidden_size"),
    ({"hidden_size": None}, "hidden_size"),
    ({"num_attention_heads": 0}, "num_attention_heads"),
    ({"num_hidden_layers": {}}, "num_hidden_layers"),
    ({"num_hidden_layers": 2**31}, "num_hidden_layers"),
    ({"rms_norm_eps": "small"}, "rms_norm_eps"),
    ({"vocab_size": []}, "vocab_size"),
    ({"rope_scaling": "yes"}, "rope_scaling"),
    ({"rope_scaling": {"rope_type": "spiral"}}, "spiral"),
    ({"tie_word_embeddings": "no"}, "tie_word_embeddings"),
    ({"model_type": 5}, "model_type"),
    ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor"),
    ({"rope_scaling": {"rope_type": "linear", "factor": "8"}}, "factor"),
    ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1], "long_factor": [1]}},
     "factor"),
    ({"num_key_value_heads": 3}, "num_key_value_heads"),
    ({"num_key_value_heads": 0}, "num_key_value_heads"),
    ({"vocab_size": 10**12}, "vocab_size"),
    ({"eos_token_id": -1}, "eos_token_id"),
    ({"eos_token_id": [1, 100000]}, "eos_token_id"),
    ({"eos_token_id": "one"}, "eos_token_id"),
    ({"quantization": {"bits": "four", "group_size": 64}}, "bits"),
    ({"quantization": {"bits": 0, "group_size": 64}}, "bits"),
    ({"quantization": {"bits": 9, "group_size": 64}}, "bits"),
    ({"quantization": {"bits": 4, "group_size": 0}}, "group_size"),
    ({"quantization": {"bits": 4, "group_size": 64, "mode": "magic"}}, "mode"),
])
def test_config_values(fails, checkpoint, changes, field):
    line = fails(*generate(checkpoint(**changes)))
    assert "config.json" in line and field in line


def test_unknown_architecture_lists_the_nearest(fails, checkpoint):
    line = fails(*generate(checkpoint(model_type="lama")))
    assert "lama" in line and "llama" in line


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"null", b'{"model_type": "llama", "model_type": "llama"}',
    b"\xff\xfe{}", b"[" * 100000,
])
def test_config_files(fails, checkpoint, content):
    assert "config.json" in fails(*generate(checkpoint(files={"config.json": content})))


@pytest.mark.parametrize("changes", [
    {"eos_token_id": None}, {"eos_token_id": [1, 2]}, {"eos_token_id": []},
    {"auto_map": {"AutoModel": "evil.Model"}, "trust_remote_code": True},
    {"unknown_field": {"a": [1, {"b": None}]}},
])
def test_config_values_that_do_no_harm(mlxlm, checkpoint, changes):
    folder = checkpoint(**changes, files={"evil.py": "raise SystemExit(1)"})
    done = mlxlm(*generate(folder))
    assert done.code == 0, done.err


def test_generation_config_with_nan(mlxlm, checkpoint):
    folder = checkpoint(files={
        "generation_config.json": '{"temperature": NaN, "eos_token_id": 1}'})
    assert mlxlm(*generate(folder)).code == 0


def test_quantization_of_a_missing_layer(fails, checkpoint):
    block = {"bits": 4, "group_size": 64, "model.layers.9.mlp.up_proj": {"bits": 8}}
    assert "quantization.model.layers.9.mlp.up_proj" in fails(
        *generate(checkpoint(quantization=block)))


def test_config_with_a_byte_order_mark(mlxlm, checkpoint):
    content = b"\xef\xbb\xbf" + json.dumps(CONFIG).encode()
    done = mlxlm(*generate(checkpoint(files={"config.json": content})))
    assert done.code == 0, done.err


def test_a_config_of_megabytes_takes_no_time(mlxlm, fails, checkpoint):
    filler = json.dumps({**CONFIG, "filler": "x" * (10 << 20)}).encode()
    mlxlm(*generate(checkpoint(files={"config.json": filler})), timeout=60)
    commented = json.dumps(CONFIG).encode().replace(b"{", b"{ // a comment\n", 1)
    assert "config.json" in fails(
        *generate(checkpoint(name="commented", files={"config.json": commented})))


GOOD = safetensors(shapes(CONFIG))
HEADER = struct.unpack("<Q", GOOD[:8])[0]


def with_header(change):
    header = json.loads(GOOD[8:8 + HEADER])
    change(header)
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + GOOD[8 + HEADER:]


def entry(**changes):
    return with_header(lambda h: h["model.norm.weight"].update(changes))


@pytest.mark.parametrize("content", [
    b"", b"\0" * 7, GOOD[:100], GOOD[:-1], GOOD[:-1000], GOOD + b"x" * 4,
    struct.pack("<Q", 2**63) + GOOD[8:], struct.pack("<Q", 0) + GOOD[8:],
    struct.pack("<Q", HEADER + 10**9) + GOOD[8:],
    struct.pack("<Q", 2) + b"{}",
    entry(dtype="F33"), entry(dtype=4), entry(shape=[-16]), entry(shape=[17]),
    entry(shape=[2**62, 2**62]), entry(shape="16"), entry(data_offsets=[0]),
    entry(data_offsets=[0, 64]), entry(data_offsets=[64, 0]),
    entry(data_offsets=[10**12, 10**12 + 64]), entry(shape=[4, 4]),
    with_header(lambda h: h.pop("model.norm.weight")),
    with_header(lambda h: h.update({"model.extra": h["model.norm.weight"]})),
], ids=str)
def test_safetensors(fails, checkpoint, content):
    line = fails(*generate(checkpoint(files={"model.safetensors": content})))
    assert "model" in line


@pytest.mark.parametrize("missing, word", [
    ("config.json", "config.json"),
    ("tokenizer.json", "tokenizer"),
    ("model.safetensors", "safetensors"),
])
def test_missing_files(fails, checkpoint, missing, word):
    assert word in fails(*generate(checkpoint(without=[missing])))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model": {"type": "BPE"}}'])
def test_tokenizer_files(fails, checkpoint, content):
    line = fails(*generate(checkpoint(files={"tokenizer.json": content})))
    assert "tokenizer" in line


def gguf(version=3, tensors=0, keys=0, rest=b""):
    return struct.pack("<4sIQQ", b"GGUF", version, tensors, keys) + rest


def text(value):
    return struct.pack("<Q", len(value)) + value


@pytest.mark.parametrize("content", [
    b"", b"GGUF", b"GGML" + bytes(60), gguf(version=99), gguf(keys=2**60),
    gguf(tensors=2**60), gguf(keys=1), gguf(keys=1, rest=struct.pack("<Q", 2**62)),
    gguf(keys=1, rest=text(b"k") + struct.pack("<I", 77)),
    gguf(keys=1, rest=text(b"k") + struct.pack("<IIQ", 9, 8, 2**61)),
    gguf(keys=1, rest=text(b"general.architecture") + struct.pack("<I", 8) +
         text(b"nosuch")),
    gguf(tensors=1, rest=text(b"t") + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0)),
    gguf(tensors=1, rest=text(b"t") + struct.pack("<IQIQ", 1, 32, 9999, 0)),
    gguf(tensors=1, rest=text(b"t") + struct.pack("<IQIQ", 1, 32, 0, 2**60)),
], ids=str)
def test_gguf(fails, tmp_path, content):
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    assert "model.gguf" in fails(*generate(file))
    assert "model.gguf" in fails("inspect", file)


@pytest.mark.parametrize("reference, word", [
    ("/nonexistent/folder", "/nonexistent/folder"),
    ("org/never-downloaded", "org/never-downloaded"),
    ("smollm", "smollm2"),
    ("", ""),
    ("../../etc/passwd", ""),
    ("org/../name", ""),
])
def test_references(fails, reference, word):
    assert word in fails(*generate(reference), HF_HUB_CACHE="/nonexistent")


def test_empty_folder(fails, tmp_path):
    fails(*generate(tmp_path))


def test_prompt_longer_than_the_context(fails, checkpoint):
    line = fails("generate", "--model", checkpoint(), "-p", "a" * 200, "-m", "4")
    assert "64" in line and "200" in line


def test_prompt_that_is_empty(fails, checkpoint):
    fails("generate", "--model", checkpoint(), "-p", "", "--ignore-chat-template")


@pytest.mark.parametrize("template, word", [
    ("{{ raise_exception('no system role') }}", "no system role"),
    ("{% for i in range(999999999) %}{% for j in range(999999999) %}x{% endfor %}"
     "{% endfor %}", ""),
    ("{% if %}", ""),
    ("{{ messages.nothing.here.at_all }}", ""),
    ("{% set ns = namespace(s='0123456789') %}{% for i in range(40) %}"
     "{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s|length }}", "memory"),
    ("{% include 'other' %}", ""),
    ("{{ '-' * 10000000000 }}", ""),
    ("{{ 'a'|indent(10000000000) }}", ""),
])
def test_templates(fails, checkpoint, template, word):
    folder = checkpoint(template=template)
    assert word in fails("generate", "--model", folder, "-p", "abc", timeout=120)


def test_stop_token_that_is_none(fails, checkpoint):
    assert "nonsense" in fails(
        *generate(checkpoint()), "--extra-eos-token", "nonsense")


def test_too_many_threads_is_usage(fails, checkpoint):
    fails(*generate(checkpoint()), "--threads", "9999", code=2)


def test_perplexity_of_nothing(fails, checkpoint, tmp_path):
    file = tmp_path / "empty.txt"
    file.write_text("")
    folder = checkpoint()
    fails("perplexity", "--model", folder, "--file", file)
    fails("perplexity", "--model", folder, "--file", tmp_path / "absent.txt")
