"""generate, bench, perplexity, inspect, models."""

import json
import math
import os
import re
import signal
import subprocess

import pytest

from conftest import PROGRAM, environment, processor_seconds, safetensors

CAPITAL = "What is the capital of France?"


def test_generate_streams_an_answer(mlxlm):
    done = mlxlm("generate", "--prompt", CAPITAL, "--max-tokens", 32)
    assert done.code == 0
    assert done.text == "The capital of France is Paris.\n"
    assert re.search(r"^Prompt: 37 tokens, [\d.]+ tokens-per-sec$", done.err, re.M)
    assert re.search(r"^Generation: 8 tokens, [\d.]+ tokens-per-sec$", done.err, re.M)
    assert re.search(r"^Peak memory: 0\.\d{3} GB$", done.err, re.M)
    assert "\x1b" not in done.err and "\r" not in done.err


def test_generate_reads_a_pipe(mlxlm):
    done = mlxlm("generate", "-p", "-", "-m", 8, "--verbose", "false", stdin=CAPITAL)
    assert done.text == "The capital of France is Paris.\n" and done.err == ""


def adapter(folder, shapes, **config):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(
        {"fine_tune_type": "lora", "num_layers": 1,
         "lora_parameters": {"rank": 2, "scale": 20.0, "dropout": 0.0}, **config}))
    (folder / "adapters.safetensors").write_bytes(safetensors(shapes))
    return folder


def test_adapter(mlxlm, fails, checkpoint, tmp_path):
    model, text = checkpoint(), tmp_path / "text"
    text.write_text("the quick brown fox jumps over the lazy dog")
    down = "model.layers.0.mlp.down_proj"
    good = adapter(tmp_path / "good", {down + ".lora_a": [32, 2], down + ".lora_b": [2, 16]})
    measure = ["perplexity", "--model", model, "--file", text, "--json"]
    plain, tuned = mlxlm(*measure), mlxlm(*measure, "--adapter-path", good)
    assert tuned.code == 0, tuned.err
    assert abs(tuned.json["mean_nll"] - plain.json["mean_nll"]) > 1e-4
    answer = mlxlm("generate", "--model", model, "--adapter-path", good, "-p", "abc", "-m", 4)
    assert answer.code == 0, answer.err

    other = adapter(tmp_path / "other", {"model.layers.7.mlp.down_proj.lora_a": [32, 2],
                                         "model.layers.7.mlp.down_proj.lora_b": [2, 16]})
    assert "model.layers.7.mlp.down_proj" in fails(*measure, "--adapter-path", other)
    wrong = adapter(tmp_path / "wrong", {down + ".lora_a": [16, 2], down + ".lora_b": [2, 16]})
    assert "[2, 32], found [2, 16]" in fails(*measure, "--adapter-path", wrong)
    assert "fine_tune_type" in fails(
        *measure, "--adapter-path", adapter(tmp_path / "odd", {}, fine_tune_type="odd"))
    assert "adapter_config.json" in fails(*measure, "--adapter-path", tmp_path / "none")
    assert "--adapter-path" in fails(*measure, "--adapter-path", "")


def test_generate_without_template(mlxlm, checkpoint):
    folder = checkpoint()
    arguments = ["generate", "--model", folder, "-p", "hello", "-m", 5]
    raw = mlxlm(*arguments, "--ignore-chat-template")
    assert raw.code == 0 and raw.out.endswith(b"\n")
    assert raw.out == mlxlm(*arguments).out  # its template adds nothing


def test_drafted_answers_are_the_same(mlxlm):
    prompt = "Repeat three times: red green blue yellow orange purple black white."
    plain = mlxlm("generate", "-p", prompt, "-m", 64, "--draft", "none")
    drafted = mlxlm("generate", "-p", prompt, "-m", 64, "--draft", "prompt-lookup",
                    "--num-draft-tokens", 6)
    assert plain.code == 0 and drafted.text == plain.text
    assert re.search(r"^Drafted: \d+ tokens, \d+ taken \(\d+ %\), \d+ passes$",
                     drafted.err, re.M)
    assert "Drafted" not in plain.err
    refused = mlxlm("generate", "-p", prompt, "--draft", "model")
    assert refused.code == 1 and "draft" in refused.err and refused.out == b""


def test_samplers(mlxlm):
    ask = ("generate", "-p", CAPITAL, "-m", 8, "--seed", 3)
    greedy = mlxlm(*ask, "--temp", 0)
    # In this order one token is left; mirostat's name is not among them.
    one = mlxlm(*ask, "--temp", 1, "--top-k", 1, "--samplers", "top-k;typ_p;temperature")
    assert greedy.code == 0 and one.text == greedy.text
    warm = mlxlm(*ask, "--temp", 1, "--mirostat", 2, "--mirostat-ent", 3, "--dry-multiplier", 0.8,
                 "--dry-sequence-breaker", "none", "--min-tokens", 4)
    assert warm.code == 0 and warm.text
    for wrong in (["--samplers", "top_q"], ["--mirostat", 3], ["--samplers", "top_k;dry"]):
        refused = mlxlm(*ask, *wrong)
        assert refused.code != 0 and refused.out == b"" and refused.err


def test_prefill_response_begins_the_answer(mlxlm):
    done = mlxlm("generate", "-p", CAPITAL, "--prefill-response", "The city of",
                 "-m", 4)
    assert done.text.startswith("The city of")


@pytest.mark.parametrize("layout", ["mlx-swift-lm", "mlx-lm"])
@pytest.mark.parametrize("kind", [[], ["--kv-bits", 8, "--quantized-kv-start", 0]])
def test_cached_prompt_goes_on(mlxlm, tmp_path, layout, kind):
    """A prompt in two pieces, the first from a file, gives what it gives whole."""
    file = tmp_path / "prompt.safetensors"
    first, second = "What is the capital", " of France?"
    done = mlxlm("cache-prompt", "-p", first, "--prompt-cache-file", file,
                 "--cache-layout", layout, *kind)
    assert done.code == 0 and done.out == b""
    whole = mlxlm("generate", "-p", first + second, "-m", 32, *kind)
    done = mlxlm("generate", "-p", second, "--prompt-cache-file", file, "-m", 32, *kind)
    assert done.text == whole.text and len(done.text) > 10
    assert re.search(r"^Prompt: 37 tokens", done.err, re.M)


def test_a_folder_of_prompts_outlives_the_process(mlxlm, tmp_path):
    """The second process reads only what is new, and answers the same."""
    folder = tmp_path / "prompts"
    story = "Once upon a time there was a fox. " * 20
    plain = mlxlm("generate", "-p", story + CAPITAL, "-m", 16)
    first = mlxlm("generate", "-p", story, "-m", 16, "--prompt-cache-dir", folder)
    assert first.code == 0 and "remembered" not in first.err
    again = mlxlm("generate", "-p", story + CAPITAL, "-m", 16,
                  "--prompt-cache-dir", folder)
    assert again.text == plain.text
    total = int(re.search(r"^Prompt: (\d+) tokens", again.err, re.M)[1])
    found = int(re.search(r"^Of them remembered: (\d+) tokens", again.err, re.M)[1])
    assert 128 <= found < total and found > total - 128
    for entry in folder.glob("*.entry"):  # damaged: read again, the same answer
        entry.write_bytes(entry.read_bytes()[:-1])
    again = mlxlm("generate", "-p", story + CAPITAL, "-m", 16,
                  "--prompt-cache-dir", folder)
    assert again.text == plain.text and "remembered" not in again.err


def test_measured_budget(mlxlm, fails):
    done = mlxlm("inspect", "smollm2", "--measure", 200, "--json")
    assert done.code == 0
    found = json.loads(done.text)
    measured = found["measured"]
    assert measured["token_count"] == 200
    # Whole pages of 64 tokens.
    assert measured["kv_bytes"] == 256 * found["kv_bytes_per_token"]
    assert measured["weight_bytes"] > 50e6 and measured["workspace_bytes"] > 0
    assert measured["total_bytes"] == sum(
        measured[k] for k in ("weight_bytes", "kv_bytes", "workspace_bytes"))
    fails("inspect", "smollm2", "--measure", 100000)


def test_foreign_prompt_cache_is_refused(fails, mlxlm, checkpoint, tmp_path):
    file = tmp_path / "prompt.safetensors"
    mlxlm("cache-prompt", "-p", "hello", "--prompt-cache-file", file)
    fails("generate", "--model", checkpoint(), "-p", "x", "--prompt-cache-file", file)
    file.write_bytes(file.read_bytes()[:1000])
    fails("generate", "-p", "x", "--prompt-cache-file", file)


@pytest.mark.parametrize("kind", [["--kv-bits", 8], ["--kv-scheme", "turbo4v4"],
                                  ["--kv-scheme", "quality"], ["--max-kv-size", 64]])
def test_keys_and_values_in_fewer_bits(mlxlm, kind):
    count = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"
    done = mlxlm("generate", "--ignore-chat-template", "-p", count, "-m", 12,
                 "--quantized-kv-start", 0, *kind)
    assert done.text.startswith(" 13, 14, 15,")


def test_unknown_kv_scheme(fails):
    fails("generate", "-p", "x", "--kv-scheme", "turbo9")


def test_seed_repeats(mlxlm, checkpoint):
    folder = checkpoint()
    arguments = ["generate", "--model", folder, "-p", "abc", "-m", 20, "--temp", 1.5]
    first = mlxlm(*arguments, "--seed", 7).out
    assert first == mlxlm(*arguments, "--seed", 7).out
    others = {mlxlm(*arguments, "--seed", s).out for s in range(20, 24)}
    assert others != {first}


def test_stop_text_is_not_shown(mlxlm):
    done = mlxlm("generate", "-p", CAPITAL, "-m", 32, "--stop", " Paris")
    assert done.text == "The capital of France is\n"


def test_closed_pipe_is_quiet():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([PROGRAM, "generate", "-p", CAPITAL, "-m", "50"],
                          stdout=writing, stderr=subprocess.PIPE, timeout=120,
                          env=environment({}))
    os.close(writing)
    assert done.returncode == 0 and done.stderr == b""


def test_full_disk_is_an_error():
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and b"standard output" in done.stderr


def test_interrupt_ends_generate():
    child = subprocess.Popen(
        [PROGRAM, "generate", "-p", "Tell a very long story.", "-m", "4000",
         "--min-tokens", "4000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment({}))
    assert child.stdout.read(1)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 130
    assert out.endswith(b"\n") and b"Traceback" not in err


@pytest.mark.parametrize("stdin,word", [
    (b"\xff\xfe\x00", "UTF-8"), (b"a" * (10 << 20), "context")],
    ids=["bytes", "long"])
def test_prompts_that_cannot_be_read(stdin, word, checkpoint):
    done = subprocess.run(
        [PROGRAM, "generate", "--model", checkpoint(), "-p", "-", "-m", "1",
         "--ignore-chat-template"],
        input=stdin, capture_output=True, env=environment({}), timeout=120)
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1 and word in lines[0] and len(lines[0]) < 500


def test_bench_json(mlxlm, checkpoint):
    done = mlxlm("bench", "--model", checkpoint(), "-p", 16, "-g", 8, "-b", 2, "-n", 3,
                 "--json")
    assert done.code == 0, done.err
    result = done.json
    assert set(result) == {"trials", "median"} and len(result["trials"]) == 3
    for row in [*result["trials"], result["median"]]:
        assert set(row) == {"prompt_tps", "generation_tps", "peak_memory_bytes"}
        assert all(value > 0 for value in row.values())
    middle = sorted(t["prompt_tps"] for t in result["trials"])[1]
    assert result["median"]["prompt_tps"] == middle


def test_bench_at_a_depth(mlxlm, checkpoint):
    found = {}
    for scheme in [(), ("--kv-scheme", "turbo3", "--quantized-kv-start", 0)]:
        done = mlxlm("bench", "--model", "smollm2", "-p", 1, "-g", 4, "-n", 1, "-d", 1000, "--json",
                     *scheme)
        assert done.code == 0, done.err
        found[scheme] = done.json["median"]
        assert set(found[scheme]) == {"prompt_tps", "generation_tps", "peak_memory_bytes",
                                      "kv_bytes"}
    plain, packed = (row["kv_bytes"] for row in found.values())
    assert plain >= 1000 * 30 * 3 * 64 * 2 * 2  # layers, heads of 64, keys and values of two bytes
    assert plain > 4 * packed > 0
    done = mlxlm("bench", "--model", checkpoint(), "-p", 1, "-g", 4, "-n", 1, "-d", 5000)
    assert done.code == 1 and "context" in done.err


def test_perplexity_json(mlxlm, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("The quick brown fox jumps over the lazy dog.\n")
    done = mlxlm("perplexity", "--model", "smollm2", "--file", file, "--json")
    result = done.json
    ids = mlxlm("tokenize", "--model", "smollm2", stdin=file.read_bytes()).json
    assert set(result) == {"perplexity", "mean_nll", "tokens"}
    assert result["tokens"] == len(ids) - 1
    assert math.isclose(result["perplexity"], math.exp(result["mean_nll"]))
    assert 1 < result["perplexity"] < 1000


def test_inspect(mlxlm, checkpoint):
    folder = checkpoint()
    result = mlxlm("inspect", "--model", folder, "--json").json
    assert result["model_type"] == "llama" and result["container"] == "safetensors"
    assert result["layers"] == 1 and result["vocab"] == 32
    assert result["config"]["hidden_size"] == 16
    assert result["context_length"] == 64 and result["context_that_fits"] == 64
    assert result["obstacle"] is None
    # One layer in f16, and the context is one page.
    per_token = result["kv_bytes_per_token"]
    config = result["config"]
    width = config["hidden_size"] // config["num_attention_heads"]
    assert per_token == config.get("num_key_value_heads", config["num_attention_heads"]) * width * 4
    assert result["kv_bytes_of_context"] == 64 * per_token
    shapes = {t["name"]: t["shape"] for t in result["tensors"]}
    assert shapes["model.embed_tokens.weight"] == [32, 16]
    assert sum(t["bytes"] for t in result["tensors"]) == result["weight_bytes"]
    plain = mlxlm("inspect", folder).text
    assert "model.embed_tokens.weight" in plain and "[32, 16]" in plain


def test_inspect_what_cannot_be_loaded(mlxlm, checkpoint):
    folder = checkpoint(model_type="lama")
    result = mlxlm("inspect", "--model", folder, "--json").json
    assert "llama" in result["obstacle"] and result["kv_bytes_per_token"] == 0
    assert "cannot be loaded" in mlxlm("inspect", folder).text


def test_models(mlxlm, fails, tmp_path):
    cache = tmp_path / "hub"
    snapshot = cache / "models--org--name/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (cache / "models--org--name/refs").mkdir()
    (cache / "models--org--name/refs/main").write_text("abc")
    names = [m["reference"] for m in
             mlxlm("models", "list", "--json", HF_HUB_CACHE=str(cache)).json]
    assert "org/name" in names
    assert "no such model" in fails("models", "rm", "org/nane", HF_HUB_CACHE=str(cache))
    assert mlxlm("models", "rm", "org/name", HF_HUB_CACHE=str(cache)).code == 0
    assert not (cache / "models--org--name").exists() and cache.exists()
    assert "remove" in fails("models", "rm", "smollm2", HF_HUB_CACHE=str(cache))


def test_starts_fast(mlxlm):
    assert processor_seconds(lambda: mlxlm("settings")) < 0.1
