"""Models of the Llama-3.2-1B shape with random weights: a Q4_0 GGUF that llama.cpp
loads as well, and its MLX twin (affine, 4 bit, groups of 64, safetensors)."""

import json
import struct
from pathlib import Path

import numpy as np

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, VOCAB = 2048, 8192, 16, 32, 8, 128256
HEAD_DIM = HIDDEN // HEADS
ROPE_BASE, EPS, CONTEXT = 500000.0, 1e-5, 131072
BOS, EOS = 128000, 128009


def matrices():
    """(GGUF name, MLX name, rows, columns) of every weight matrix."""
    kv = KV_HEADS * HEAD_DIM
    yield "token_embd", "model.embed_tokens", VOCAB, HIDDEN
    for i in range(LAYERS):
        ours, theirs = f"blk.{i}.", f"model.layers.{i}."
        yield ours + "attn_q", theirs + "self_attn.q_proj", HIDDEN, HIDDEN
        yield ours + "attn_k", theirs + "self_attn.k_proj", kv, HIDDEN
        yield ours + "attn_v", theirs + "self_attn.v_proj", kv, HIDDEN
        yield ours + "attn_output", theirs + "self_attn.o_proj", HIDDEN, HIDDEN
        yield ours + "ffn_gate", theirs + "mlp.gate_proj", INNER, HIDDEN
        yield ours + "ffn_up", theirs + "mlp.up_proj", INNER, HIDDEN
        yield ours + "ffn_down", theirs + "mlp.down_proj", HIDDEN, INNER


def norms():
    yield "output_norm", "model.norm"
    for i in range(LAYERS):
        yield f"blk.{i}.attn_norm", f"model.layers.{i}.input_layernorm"
        yield f"blk.{i}.ffn_norm", f"model.layers.{i}.post_attention_layernorm"


def byte_characters():
    """The characters that byte-level BPE writes for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    table = {b: chr(b) for b in plain}
    table.update({b: chr(256 + i) for i, b in enumerate(others)})
    return [table[b] for b in range(256)]


def vocabulary():
    tokens = byte_characters()
    tokens += [f"t{i}" for i in range(len(tokens), BOS)]
    return tokens + [f"<|special_{i}|>" for i in range(BOS, VOCAB)]


# ---- GGUF ---------------------------------------------------------------------

ALIGNMENT = 32
F32, Q4_0 = 0, 2


def gguf_string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf_value(value):
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + gguf_string(value)
    kind = 8 if isinstance(value[0], str) else 5
    head = struct.pack("<IIQ", 9, kind, len(value))
    if kind == 8:
        return head + b"".join(map(gguf_string, value))
    return head + struct.pack(f"<{len(value)}i", *value)


def gguf_metadata():
    return {
        "general.architecture": "llama",
        "general.name": "random 1B",
        "general.file_type": 2,
        "general.alignment": ALIGNMENT,
        "llama.vocab_size": VOCAB,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": HIDDEN,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": EPS,
        "llama.rope.dimension_count": HEAD_DIM,
        "llama.rope.freq_base": ROPE_BASE,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": vocabulary(),
        "tokenizer.ggml.token_type": [1] * BOS + [3] * (VOCAB - BOS),
        "tokenizer.ggml.merges": ["t 2"],
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS,
    }


def random_q4_0(rng, rows, columns):
    """Blocks of 32: a float16 scale and 16 bytes of two codes each."""
    blocks = rng.integers(0, 256, (rows * columns // 32, 18), dtype=np.uint8)
    scales = (rng.random(len(blocks), dtype=np.float32) + 0.5) * 0.2 / columns**0.5
    blocks[:, :2] = scales.astype("<f2").view(np.uint8).reshape(-1, 2)
    return blocks


def write_gguf(path):
    tensors = [(f"{n}.weight", (columns, rows), Q4_0, rows * columns // 32 * 18)
               for n, _, rows, columns in matrices()]
    tensors += [(f"{n}.weight", (HIDDEN,), F32, HIDDEN * 4) for n, _ in norms()]
    metadata = gguf_metadata()
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        head += gguf_string(key) + gguf_value(value)
    offset = 0
    for name, shape, kind, size in tensors:
        head += gguf_string(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", kind, offset)
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    rng = np.random.default_rng(1)
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT))
        for _, shape, kind, size in tensors:
            if kind == Q4_0:
                random_q4_0(rng, shape[1], shape[0]).tofile(file)
            else:
                np.ones(shape, np.float32).tofile(file)
            file.write(bytes(-size % ALIGNMENT))


# ---- safetensors --------------------------------------------------------------


def bfloat16(values):
    return (np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def affine(rng, name, *shape, group=64):
    """The tensors of one 4-bit affine matrix, as (name, dtype, shape, values):
    w = scale * code + bias."""
    *outer, columns = shape
    few = (*outer, columns // group)

    def scales():
        return (rng.random(few, dtype=np.float32) + 0.5) * 0.2 / columns**0.5

    made = []

    def first():
        made.append(scales())
        return bfloat16(made[0])

    yield f"{name}.weight", "U32", (*outer, columns // 8), lambda: rng.integers(
        0, 2**32, (*outer, columns // 8), dtype=np.uint32)
    yield f"{name}.scales", "BF16", few, first
    yield f"{name}.biases", "BF16", few, lambda: bfloat16(-8 * made.pop())


def plain(name, values):
    values = np.asarray(values)
    return name, "BF16", values.shape, lambda: bfloat16(values)


def mlx_tensors(rng):
    for _, name, rows, columns in matrices():
        yield from affine(rng, name, rows, columns)
    for _, name in norms():
        yield plain(f"{name}.weight", np.ones(HIDDEN))


def mlx_config():
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM,
        "vocab_size": VOCAB, "rms_norm_eps": EPS, "rope_theta": ROPE_BASE,
        "max_position_embeddings": CONTEXT, "tie_word_embeddings": True,
        "bos_token_id": BOS, "eos_token_id": EOS, "torch_dtype": "bfloat16",
        "quantization": {"group_size": 64, "bits": 4},
    }


def mlx_tokenizer(tokens, ordinary):
    special = [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": True}
               for i in range(ordinary, len(tokens))]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False,
                  "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": special, "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None,
            "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None,
                      "vocab": {t: i for i, t in enumerate(tokens[:ordinary])},
                      "merges": []}}


def write_mlx(folder, config, tensors, tokenizer):
    """A checkpoint of (name, dtype, shape, values()) tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = list(tensors)
    header, offset = {}, 0
    for name, dtype, shape, _ in tensors:
        size = int(np.prod(shape)) * {"U32": 4, "BF16": 2}[dtype]
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [offset, offset + size]}
        offset += size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for *_, values in tensors:
            values().tofile(file)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    # Last: its presence says that the rest is whole.
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def build(folder):
    """Writes both below `folder` unless they are there; returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    gguf, twin = folder / "random-1b-q4_0.gguf", folder / "random-1b-4bit"
    if not gguf.exists():
        write_gguf(gguf.with_suffix(".part"))
        gguf.with_suffix(".part").rename(gguf)
    if not (twin / "tokenizer.json").exists():
        write_mlx(twin, mlx_config(), mlx_tensors(np.random.default_rng(2)),
                  mlx_tokenizer(vocabulary(), BOS))
    return gguf, twin
