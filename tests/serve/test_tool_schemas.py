"""Arguments of forced calls hold to their schemas in every way that models write them:
random schemas, models with random weights, so that all that comes is the grammar's."""

import concurrent.futures
import json

import pytest
import schemas
from conftest import cli
from test_tool_choice import template, tokenizer

COUNT, STREAMS, TOKENS = 12, 6, 800
# Formats by the name that tokenizer_config.json gives them, and marks that are tokens.
FORMATS = {
    "hermes": ["<tool_call>", "</tool_call>"],
    "qwen3_coder": ["<tool_call>", "</tool_call>"],
    "seed_oss": [],
    "glm47": ["<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
    "minimax_m2": ["<minimax:tool_call>", "</minimax:tool_call>"],
    "minimax_m3": [],
    "minicpm5": [],
    "gemma4": ["<|tool_call>", "<tool_call|>", '<|"|>'],
    "function_gemma": ["<start_function_call>", "<end_function_call>", "<escape>"],
    "pythonic": ["<|tool_call_start|>", "<|tool_call_end|>"],
    "kimi_k3": ["<|open|>", "<|close|>", "<|sep|>"],
    "deepseek_v32": ["\uff5cDSML\uff5c"],
}


def parameters(seed):
    """Two arguments of random schemas."""
    definitions, properties = {}, {}
    for i, name in enumerate(("first", "second")):
        schema = schemas.make(2 * seed + i)
        # Both may have definitions of the same names.
        text = json.dumps(schema).replace("#/$defs/", f"#/$defs/{name}_")
        schema = json.loads(text)
        if isinstance(schema, dict):
            for key, value in schema.pop("$defs", {}).items():
                definitions[f"{name}_{key}"] = value
        properties[name] = schema
    return {"type": "object", "properties": properties, "required": ["first"],
            "additionalProperties": False, "$defs": definitions}


# The tiny vocabulary has no other characters.
SEEDS = [seed for seed in range(200)
         if json.dumps(parameters(seed), ensure_ascii=False).isascii()][:COUNT]


@pytest.fixture(params=FORMATS)
def server(request, serve, checkpoint):
    made, size = tokenizer(FORMATS[request.param])
    shape = {"vocab_size": size, "max_position_embeddings": 16384}
    text = template("qwen25_tools")
    running = serve("--model", checkpoint(template=text, files={
        "tokenizer.json": json.dumps(made),
        "tokenizer_config.json": json.dumps(
            {"chat_template": text, "eos_token": "</s>", "tool_parser_type": request.param}),
        "model.safetensors": cli.safetensors(cli.shapes({**cli.CONFIG, **shape}))}, **shape),
        "--no-access-log", "--decode-concurrency", STREAMS, "--queue-per-client", COUNT)
    running.format = request.param
    return running


def test_random_schemas(server):
    def ask(seed):
        schema = parameters(seed)
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        answer = server.post("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "Hello"}], "tools": [tool], "seed": seed,
            "tool_choice": "required", "temperature": 1.0, "max_tokens": TOKENS})
        if answer.status == 400:
            return "refused: " + answer.error["message"]
        assert answer.status == 200, (schema, answer.raw)
        choice = answer.json["choices"][0]
        if choice["finish_reason"] == "length":
            return "long"
        assert choice["finish_reason"] == "tool_calls", (schema, choice)
        (call,) = choice["message"]["tool_calls"]
        try:
            schemas.check(schema, call["function"]["arguments"])
        except Exception as e:
            raise AssertionError((seed, schema, choice)) from e
        return "valid"
    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        what = list(pool.map(ask, SEEDS))
    assert what.count("valid") >= COUNT / 3, "\n".join(what)
