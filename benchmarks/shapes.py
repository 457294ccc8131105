#!/usr/bin/env python3
"""shapes.py: mixtures of experts and hybrids with random 4-bit weights.

  benchmarks/shapes.py [--mlxlm build/release/mlxlm] [--only moe,mamba2]

A model of each kind in the shape of a published one, with fewer layers, written below
--cache on the first run (5 GB). Decoding is set against the memory's read bandwidth of
the same run; the models `mamba2`, `delta` and `attention` differ only in their mixers
and are set against each other. Prints a Markdown table of medians. Needs numpy."""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import numpy as np

import run
import synthetic
from synthetic import affine, plain

VOCAB = 32000
HIDDEN = 2048


class Shape:
    """Collects a model's tensors and the bytes of them that a token reads."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.tensors = []
        self.read = 0

    def matrix(self, name, *shape, share=1.0):
        self.tensors += affine(self.rng, name, *shape)
        self.read += share * int(np.prod(shape)) * 4.5 / 8

    def vector(self, name, values):
        self.tensors.append(plain(name, values))

    def ones(self, name, size):
        self.vector(f"{name}.weight", np.ones(size))

    def embeddings(self, head, table):
        self.matrix(table, VOCAB, HIDDEN, share=0)
        self.matrix(head, VOCAB, HIDDEN)

    def experts(self, at, count, active, inner):
        self.matrix(f"{at}.gate", count, HIDDEN)
        for name, rows, columns in (("gate_proj", inner, HIDDEN),
                                    ("up_proj", inner, HIDDEN),
                                    ("down_proj", HIDDEN, inner)):
            self.matrix(f"{at}.switch_mlp.{name}", count, rows, columns,
                        share=active / count)

    def attention(self, at, heads, kv_heads, dim, gated=False):
        self.matrix(f"{at}.q_proj", heads * dim * (2 if gated else 1), HIDDEN)
        self.matrix(f"{at}.k_proj", kv_heads * dim, HIDDEN)
        self.matrix(f"{at}.v_proj", kv_heads * dim, HIDDEN)
        self.matrix(f"{at}.o_proj", HIDDEN, heads * dim)

    def head_norms(self, at, dim):
        self.ones(f"{at}.q_norm", dim)
        self.ones(f"{at}.k_norm", dim)

    def mlp(self, at, inner):
        self.matrix(f"{at}.gate_proj", inner, HIDDEN)
        self.matrix(f"{at}.up_proj", inner, HIDDEN)
        self.matrix(f"{at}.down_proj", HIDDEN, inner)

    def mamba2(self, at, heads, dim, state, groups, taps=4):
        inner, shared = heads * dim, 2 * groups * state
        self.matrix(f"{at}.in_proj", 2 * inner + shared + heads, HIDDEN)
        self.matrix(f"{at}.out_proj", HIDDEN, inner)
        self.vector(f"{at}.conv1d.weight", self.random(inner + shared, taps, 1))
        self.vector(f"{at}.conv1d.bias", self.random(inner + shared))
        self.vector(f"{at}.A_log", np.log(np.linspace(1, 16, heads)))
        self.vector(f"{at}.D", np.ones(heads))
        self.vector(f"{at}.dt_bias", np.linspace(-6, -2, heads))
        self.ones(f"{at}.norm", inner)
        self.read += 2 * 4 * inner * state  # the state, there and back

    def delta(self, at, key_heads, value_heads, dim, taps=4):
        keys, values = key_heads * dim, value_heads * dim
        channels = 2 * keys + values
        self.matrix(f"{at}.in_proj_qkvz", channels + values, HIDDEN)
        self.matrix(f"{at}.in_proj_ba", 2 * value_heads, HIDDEN)
        self.matrix(f"{at}.out_proj", HIDDEN, values)
        self.vector(f"{at}.conv1d.weight", self.random(channels, taps, 1))
        self.vector(f"{at}.A_log", np.log(np.linspace(1, 16, value_heads)))
        self.vector(f"{at}.dt_bias", np.linspace(-6, -2, value_heads))
        self.ones(f"{at}.norm", dim)
        self.read += 2 * 4 * values * dim

    def random(self, *shape):
        return self.rng.random(shape, dtype=np.float32) - 0.5


def common(model_type, layers, **more):
    return {"model_type": model_type, "hidden_size": HIDDEN, "vocab_size": VOCAB,
            "num_hidden_layers": layers, "max_position_embeddings": 32768,
            "tie_word_embeddings": False, "bos_token_id": VOCAB - 2,
            "eos_token_id": VOCAB - 1, "torch_dtype": "bfloat16",
            "quantization": {"group_size": 64, "bits": 4}, **more}


def moe(layers=6):
    """Qwen3-30B-A3B with six of its 48 layers."""
    s = Shape(3)
    s.embeddings("lm_head", "model.embed_tokens")
    s.ones("model.norm", HIDDEN)
    for i in range(layers):
        at = f"model.layers.{i}"
        s.ones(f"{at}.input_layernorm", HIDDEN)
        s.ones(f"{at}.post_attention_layernorm", HIDDEN)
        s.attention(f"{at}.self_attn", 32, 4, 128)
        s.head_norms(f"{at}.self_attn", 128)
        s.experts(f"{at}.mlp", 128, 8, 768)
    return s, common(
        "qwen3_moe", layers, num_attention_heads=32, num_key_value_heads=4,
        head_dim=128, intermediate_size=6144, moe_intermediate_size=768,
        num_experts=128, num_experts_per_tok=8, norm_topk_prob=True,
        decoder_sparse_step=1, mlp_only_layers=[], rms_norm_eps=1e-6,
        rope_theta=1e6, hidden_act="silu")


def qwen_hybrid(mixers):
    """Qwen3.5's blocks with a dense MLP each; `mixers`: d delta, a attention."""
    s = Shape(4)
    s.embeddings("lm_head", "model.embed_tokens")
    s.ones("model.norm", HIDDEN)
    for i, kind in enumerate(mixers):
        at = f"model.layers.{i}"
        s.ones(f"{at}.input_layernorm", HIDDEN)
        s.ones(f"{at}.post_attention_layernorm", HIDDEN)
        if kind == "a":
            s.attention(f"{at}.self_attn", 16, 2, 256, gated=True)
            s.head_norms(f"{at}.self_attn", 256)
        else:
            s.delta(f"{at}.linear_attn", 16, 32, 128)
        s.mlp(f"{at}.mlp", 6144)
    names = {"a": "full_attention", "d": "linear_attention"}
    return s, common(
        "qwen3_next", len(mixers), num_attention_heads=16, num_key_value_heads=2,
        head_dim=256, intermediate_size=6144, num_experts=0,
        layer_types=[names[kind] for kind in mixers], linear_num_key_heads=16,
        linear_num_value_heads=32, linear_key_head_dim=128,
        linear_value_head_dim=128, linear_conv_kernel_dim=4,
        partial_rotary_factor=0.25, rms_norm_eps=1e-6, rope_theta=1e7,
        hidden_act="silu", decoder_sparse_step=1, mlp_only_layers=[])


def nemotron(pattern, heads=64, kv_heads=8):
    """Nemotron-H: M Mamba-2, * attention, - MLP, a block each."""
    s = Shape(5)
    s.embeddings("lm_head", "backbone.embeddings")
    s.ones("backbone.norm_f", HIDDEN)
    for i, kind in enumerate(pattern):
        at = f"backbone.layers.{i}"
        s.ones(f"{at}.norm", HIDDEN)
        if kind == "M":
            s.mamba2(f"{at}.mixer", heads, 64, 128, 8)
        elif kind == "*":
            s.attention(f"{at}.mixer", 32, kv_heads, 128)
        else:
            s.matrix(f"{at}.mixer.up_proj", 8192, HIDDEN)
            s.matrix(f"{at}.mixer.down_proj", HIDDEN, 8192)
    return s, common(
        "nemotron_h", len(pattern), hybrid_override_pattern=pattern,
        num_attention_heads=32, num_key_value_heads=kv_heads, head_dim=128,
        intermediate_size=8192, mamba_num_heads=heads, mamba_head_dim=64,
        ssm_state_size=128, n_groups=8, conv_kernel=4, use_conv_bias=True,
        use_bias=False, attention_bias=False, mlp_bias=False,
        mamba_proj_bias=False, mlp_hidden_act="relu2", layer_norm_epsilon=1e-5,
        mamba_hidden_act="silu", time_step_limit=[0.0, 1e9])


# Two models of a kind of mixer that differ in its number give the time of one.
MODELS = {
    "moe": moe,
    "nemotron": lambda: nemotron("M-M-M-M*-M-M-M-M*-M-M-M-"),
    "qwen": lambda: qwen_hybrid("ddda" * 4),
    "mamba2": lambda: nemotron("M" * 24),
    "delta": lambda: qwen_hybrid("d" * 12),
    "gated": lambda: qwen_hybrid("a" * 12),
    # Of Mamba-2's inner width, 4,096, and as many heads of keys.
    "attention": lambda: nemotron("*" * 24, kv_heads=32),
}


def build(folder, name):
    """Writes the model unless it is there; returns its path and what it reads."""
    shape, config = MODELS[name]()
    path = Path(folder) / f"random-{name}-4bit"
    if not (path / "tokenizer.json").exists():
        tokens = synthetic.vocabulary()[:VOCAB]
        synthetic.write_mlx(path, config, shape.tensors,
                            synthetic.mlx_tokenizer(tokens, VOCAB - 2))
    return path, shape.read


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mlxlm", default=run.HERE.parent / "build/release/mlxlm")
    parser.add_argument("--cache", default=run.HERE.parent / "build/bench-models")
    parser.add_argument("--only", default=",".join(MODELS))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--max-pressure", type=float, default=0.05)
    parser.add_argument("--attempts", type=int, default=4)
    parser.add_argument("--json", help="file for every number")
    return parser.parse_args()


def main():
    args = arguments()
    quiet = run.Quiet(args.max_pressure, args.attempts)
    ours = run.Mlxlm(args.mlxlm, args.threads)
    models = {name: build(args.cache, name) for name in args.only.split(",")}
    bandwidth, results = [], {name: [] for name in models}
    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
        bandwidth.append(quiet(lambda: run.read_bandwidth_apart(args.threads)))
        for name, (path, _) in models.items():
            results[name].append(quiet(lambda: ours.prefill_and_decode(
                path, args.prompt, args.generate)))
    machine = statistics.median(bandwidth)
    print("| model | prefill, tok/s | decode, tok/s | ms a token | read, GB/s "
          "| of the machine's |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, (_, read) in models.items():
        prefill, decode, _ = map(statistics.median, zip(*results[name]))
        print(f"| {name} | {prefill:.0f} | {decode:.1f} | {1e3 / decode:.2f} "
              f"| {decode * read / 1e9:.1f} | {decode * read / machine:.2f} |")
    print(f"\nThe machine reads {machine / 1e9:.1f} GB/s; {args.threads} threads, "
          f"{args.rounds} rounds, medians; {quiet.rejected} runs thrown away.")
    if args.json:
        Path(args.json).write_text(json.dumps(
            {"read_bandwidth": bandwidth, "runs": results}, indent=1))


if __name__ == "__main__":
    main()
