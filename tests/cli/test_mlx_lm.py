"""What convert writes, in Python mlx-lm: the same logits. Runs where mlx-lm is
installed (pip install mlx-lm 'mlx[cpu]'); it is not part of the set-up."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import PROGRAM, ROOT

pytest.importorskip("mlx_lm")
mx = pytest.importorskip("mlx.core")

FIXTURES = ROOT / "build/fixtures/text"
RUNNER = Path(PROGRAM).parent / "tests/conformance/mlxlm-conformance"
MODELS = ["llama", "qwen3_moe", "gemma3_text", "deepseek_v3", "nemotron_h"]
WAYS = {
    "plain": [],
    "4bit": ["-q", "--q-group-size", "32"],
    "mxfp4": ["-q", "--q-mode", "mxfp4"],
    "mixed": ["-q", "--quant-predicate", "mixed_3_6"],
}


def record(model_folder, case):
    """The logits of mlx-lm as a case of the conformance runner."""
    from mlx_lm.utils import load_model

    mx.disable_compile()
    model, config = load_model(model_folder)
    vocabulary = (config.get("text_config") or config)["vocab_size"]
    prompt = [(7 * i + 3) % (vocabulary - 1) for i in range(24)]
    logits = model(mx.array([prompt]))[0].astype(mx.float32)
    ids, rows = list(prompt), []
    for _ in range(6):
        rows.append(model(mx.array([ids]))[0, -1].astype(mx.float32))
        ids.append(mx.argmax(rows[-1]).item())
    case.mkdir(parents=True)
    mx.save_safetensors(str(case / "golden.safetensors"), {
        "input_ids": mx.array([prompt], mx.int32), "logits": logits,
        "greedy_ids": mx.array([ids[len(prompt):]], mx.int32),
        "greedy_logits": mx.stack(rows)})
    allowed = 1e-3 * max(1.0, mx.std(logits).item())
    (case / "case.json").write_text(json.dumps({
        "dtype": "float32", "tolerance": {
            "logits_max_abs": allowed, "greedy_logits_max_abs": 2 * allowed}}))
    shutil.copytree(model_folder, case / "model")


def same_logits(folder, tmp_path):
    record(folder, tmp_path / "text/case")
    done = subprocess.run([RUNNER, str(tmp_path / "text")], capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_same_logits(mlxlm, tmp_path, name, way):
    source = FIXTURES / name / "model"
    if not source.is_dir() or not RUNNER.is_file():
        pytest.skip("needs what ./test builds and unpacks")
    out = tmp_path / "out"
    done = mlxlm("convert", "--model", source, "--dtype", "float32", "--mlx-path", out,
                 *WAYS[way])
    assert done.code == 0, done.err
    same_logits(out, tmp_path)


def test_dequantized(mlxlm, tmp_path):
    source = FIXTURES / "llama/model"
    if not source.is_dir() or not RUNNER.is_file():
        pytest.skip("needs what ./test builds and unpacks")
    packed, out = tmp_path / "packed", tmp_path / "out"
    for arguments in ([source, "-q", "--mlx-path", packed], [packed, "-d", "--mlx-path", out]):
        done = mlxlm("convert", "--dtype", "float32", "--model", *arguments)
        assert done.code == 0, done.err
    same_logits(out, tmp_path)
