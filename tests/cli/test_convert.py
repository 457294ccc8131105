"""convert."""

import json
import struct

import pytest

from conftest import CONFIG, safetensors, shapes

WIDE = {**CONFIG, "hidden_size": 64, "intermediate_size": 128}


@pytest.fixture
def wide(checkpoint):
    """A tiny Llama whose rows fill a group."""
    return checkpoint(files={"model.safetensors": safetensors(shapes(WIDE))}, **{
        k: v for k, v in WIDE.items() if v != CONFIG[k]})


def header(path):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + size])


def test_quantizes_and_loads(mlxlm, wide, tmp_path):
    out = tmp_path / "out"
    done = mlxlm("convert", "--hf-path", wide, "-q", "--mlx-path", out, "--json")
    assert done.code == 0, done.err
    report = done.json
    assert report["path"] == str(out) and report["resumed_bytes"] == 0
    assert 4.4 < report["bits_per_weight"] < 5.5
    config = json.loads((out / "config.json").read_text())
    assert config["quantization"] == {"group_size": 64, "bits": 4, "mode": "affine"}
    assert (out / "tokenizer.json").read_bytes() == (wide / "tokenizer.json").read_bytes()
    tensors = header(out / "model.safetensors")
    assert tensors["__metadata__"] == {"format": "mlx"}
    assert tensors["model.embed_tokens.weight"]["shape"] == [32, 8]
    answer = mlxlm("generate", "--model", out, "-p", "abc", "-m", 4)
    assert answer.code == 0, answer.err


@pytest.mark.parametrize("mode", ["mxfp4", "mxfp8", "nvfp4"])
def test_modes(mlxlm, wide, tmp_path, mode):
    out = tmp_path / "out"
    done = mlxlm("convert", "--model", wide, "-q", "--q-mode", mode, "--mlx-path", out)
    assert done.code == 0 and done.out == b"", done.err
    assert header(out / "model.safetensors")["model.embed_tokens.scales"]["dtype"] == "U8"
    assert mlxlm("generate", "--model", out, "-p", "abc", "-m", 2).code == 0


def test_type_and_back(mlxlm, wide, tmp_path):
    plain, packed, back = (tmp_path / n for n in ("plain", "packed", "back"))
    assert mlxlm("convert", "--model", wide, "--dtype", "bfloat16",
                 "--mlx-path", plain).code == 0
    assert header(plain / "model.safetensors")["model.norm.weight"]["dtype"] == "BF16"
    mlxlm("convert", "--model", wide, "-q", "--q-bits", 8, "--mlx-path", packed)
    assert mlxlm("convert", "--model", packed, "-d", "--mlx-path", back).code == 0
    assert set(header(back / "model.safetensors")) == set(header(plain / "model.safetensors"))


def test_modules_of_their_own(mlxlm, wide, tmp_path):
    out = tmp_path / "out"
    layers = {"*.down_proj": {"bits": 8, "group_size": 32}, "model.embed_tokens": False}
    done = mlxlm("convert", "--model", wide, "-q", "--q-layers", json.dumps(layers),
                 "--mlx-path", out)
    assert done.code == 0, done.err
    block = json.loads((out / "config.json").read_text())["quantization"]
    assert block["model.embed_tokens"] is False
    assert block["model.layers.0.mlp.down_proj"]["bits"] == 8
    assert "model.embed_tokens.scales" not in header(out / "model.safetensors")


def test_default_model_becomes_a_folder(mlxlm, tmp_path):
    out = tmp_path / "smollm2-8bit"
    done = mlxlm("convert", "--model", "smollm2", "-q", "--q-bits", 8, "--mlx-path", out,
                 timeout=300)
    assert done.code == 0, done.err
    assert (out / "tokenizer.json").is_file() and (out / "tokenizer_config.json").is_file()
    question = ["-p", "What is the capital of France?", "-m", 12, "--verbose", "false"]
    answer = mlxlm("generate", "--model", out, *question)
    assert answer.code == 0 and "Paris" in answer.text, answer.err


def test_mistakes(mlxlm, fails, wide, tmp_path):
    out = tmp_path / "out"
    assert "--model" in fails("convert", code=2)
    here = ["convert", "--model", wide, "--mlx-path", out]
    assert "found both" in fails(*here, "-q", "-d")
    assert "7" in fails(*here, "-q", "--q-bits", 7)
    assert "48" in fails(*here, "-q", "--q-group-size", 48)
    assert "recipe alone" in fails(*here, "--quant-predicate", "mixed_2_6")
    assert "upload" in fails(*here, "--upload-repo", "org/name", code=2)
    assert "--q-layers" in fails(*here, "-q", "--q-layers", '{"a": 3}', code=2)
    assert "does not exist" in fails("convert", "--model", wide, "--mlx-path", wide)
    assert not out.exists()


def test_missing_tensor_is_named(fails, checkpoint, tmp_path):
    tensors = shapes(CONFIG)
    del tensors["model.norm.weight"]
    folder = checkpoint(files={"model.safetensors": safetensors(tensors)})
    error = fails("convert", "--model", folder, "--mlx-path", tmp_path / "out")
    assert "model.norm.weight" in error
    assert not (tmp_path / "out").exists()
