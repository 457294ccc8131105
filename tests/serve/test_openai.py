"""The openai package against the server."""

import concurrent.futures
import json

import pytest

openai = pytest.importorskip("openai")

CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
PARIS = "The capital of France is Paris."


def test_chat(client):
    answer = client.chat.completions.create(model="smollm2", messages=CAPITAL, max_tokens=32)
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    choice = answer.choices[0]
    assert choice.message.content == PARIS and choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert answer.usage.prompt_tokens == 37
    assert answer.usage.total_tokens == 37 + answer.usage.completion_tokens
    assert answer.model_extra["timings"]["predicted_n"] == answer.usage.completion_tokens


def test_chat_stream(client):
    chunks = list(client.chat.completions.create(
        model="smollm2", messages=CAPITAL, max_tokens=32, stream=True,
        stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == PARIS
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.prompt_tokens == 37
    assert len({c.id for c in chunks}) == 1
    assert sum(1 for c in chunks for x in c.choices if x.finish_reason) == 1


def test_order_of_a_stream(server):
    answer = server.post("/v1/chat/completions", {"messages": CAPITAL, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    events = answer.events()
    assert events[-1] == "[DONE]"
    parsed = [json.loads(e) for e in events[:-1]]
    assert parsed[0]["choices"][0]["delta"]["role"] == "assistant"
    assert parsed[-1]["choices"][0]["finish_reason"] == "stop"
    assert all("usage" not in p for p in parsed)


@pytest.mark.parametrize("stream", [False, True])
def test_length_and_stop(client, stream):
    def ask(**more):
        answer = client.chat.completions.create(
            model="smollm2", messages=CAPITAL, stream=stream, **more)
        if not stream:
            return answer.choices[0].message.content, answer.choices[0].finish_reason
        chunks = [c.choices[0] for c in answer]
        return "".join(c.delta.content or "" for c in chunks), chunks[-1].finish_reason
    assert ask(max_tokens=3) == ("The capital of", "length")
    assert ask(max_completion_tokens=2, max_tokens=30) == ("The capital", "length")
    assert ask(stop=" France") == ("The capital of", "stop")
    assert ask(stop=["zzz", "Fran", "capital of Germany"]) == ("The capital of ", "stop")


def test_several_choices(client):
    answer = client.chat.completions.create(
        model="smollm2", messages=CAPITAL, n=3, temperature=1.5, seed=5, max_tokens=12)
    texts = [c.message.content for c in answer.choices]
    assert [c.index for c in answer.choices] == [0, 1, 2] and len(set(texts)) > 1
    again = client.chat.completions.create(
        model="smollm2", messages=CAPITAL, n=3, temperature=1.5, seed=5, max_tokens=12,
        stream=True)
    streamed = ["", "", ""]
    for chunk in again:
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts


def test_logprobs(client):
    answer = client.chat.completions.create(
        model="smollm2", messages=CAPITAL, max_tokens=4, logprobs=True)
    content = answer.choices[0].logprobs.content
    assert "".join(t.token for t in content) == answer.choices[0].message.content
    assert all(t.logprob <= 0 for t in content)
    assert bytes(content[0].bytes).decode() == content[0].token
    chunks = list(client.chat.completions.create(
        model="smollm2", messages=CAPITAL, max_tokens=4, logprobs=True, stream=True))
    seen = [t.token for c in chunks for x in c.choices if x.logprobs
            for t in x.logprobs.content]
    assert seen == [t.token for t in content]


def test_parts_and_developer(client):
    answer = client.chat.completions.create(model="smollm2", max_tokens=32, messages=[
        {"role": "developer", "content": "You are a helpful assistant."},
        {"role": "user", "content": [{"type": "text", "text": "What is the capital "},
                                     {"type": "text", "text": "of France?"}]}])
    assert "Paris" in answer.choices[0].message.content


def test_completions(client):
    whole = client.completions.create(
        model="smollm2", prompt="The capital of France is", max_tokens=5, logprobs=1)
    text = whole.choices[0].text
    assert text.startswith(" Paris") and whole.object == "text_completion"
    tokens = whole.choices[0].logprobs
    assert "".join(tokens.tokens) == text and tokens.text_offset[0] == 0
    echoed = client.completions.create(
        model="smollm2", prompt="The capital of France is", max_tokens=5, echo=True)
    assert echoed.choices[0].text == "The capital of France is" + text
    streamed = client.completions.create(
        model="smollm2", prompt="The capital of France is", max_tokens=5, stream=True)
    assert "".join(c.choices[0].text for c in streamed) == text


def test_echo_with_logprobs(client, server):
    """What lm-eval-harness scores texts with."""
    ids = server.post("/tokenize", {"content": "The capital of France is"}).json["tokens"]
    said = client.completions.create(model="smollm2", prompt=ids, max_tokens=4, logprobs=2)
    said = said.choices[0].logprobs
    more = [server.post("/tokenize", {"content": t, "add_special": False}).json["tokens"][0]
            for t in said.tokens]
    for stream in (False, True):
        answer = client.completions.create(
            model="smollm2", prompt=ids + more, max_tokens=0, echo=True, logprobs=2, stream=stream)
        chunks = list(answer) if stream else [answer]
        choices = [c.choices[0] for c in chunks if c.choices]
        text = "".join(c.text for c in choices)
        scored = choices[0].logprobs
        assert choices[-1].finish_reason == "length"
        assert text == "".join(scored.tokens) and text.startswith("The capital of France is Paris")
        assert len(scored.tokens) == len(ids + more)
        assert scored.token_logprobs[0] is None and scored.top_logprobs[0] is None
        assert all(x <= 0 for x in scored.token_logprobs[1:])
        assert scored.token_logprobs[-4:] == pytest.approx(said.token_logprobs, abs=2e-3)
        assert scored.text_offset[:2] == [0, len(scored.tokens[0])]
        for token, top in zip(said.tokens, scored.top_logprobs[-4:]):
            assert max(top, key=top.get) == token  # it was greedy
    longer = client.completions.create(
        model="smollm2", prompt=ids, max_tokens=4, echo=True, logprobs=2)
    logprobs = longer.choices[0].logprobs
    assert "".join(logprobs.tokens) == longer.choices[0].text
    assert logprobs.tokens[-4:] == said.tokens
    assert logprobs.token_logprobs[-4:] == said.token_logprobs
    assert longer.usage.completion_tokens == 4
    several = client.completions.create(
        model="smollm2", prompt=["One, two,", "a"], n=2, max_tokens=1, echo=True, logprobs=0)
    assert [c.logprobs.token_logprobs[0] for c in several.choices] == [None] * 4


def test_completions_of_tokens_and_lists(client, server):
    ids = server.post("/tokenize", {"content": "The capital of France is"}).json["tokens"]
    text = client.completions.create(model="smollm2", prompt=ids, max_tokens=3)
    both = client.completions.create(
        model="smollm2", prompt=["The capital of France is", "One, two,"], max_tokens=3, n=2)
    assert [c.index for c in both.choices] == [0, 1, 2, 3]
    assert both.choices[0].text == both.choices[1].text == text.choices[0].text
    assert both.choices[2].text == both.choices[3].text != text.choices[0].text
    assert both.usage.prompt_tokens == 5 + 4


def test_models(client):
    models = client.models.list().data
    assert [m.id for m in models] == ["smollm2"]
    assert client.models.retrieve("smollm2").owned_by == "mlxlm"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_errors_have_their_classes(client):
    with pytest.raises(openai.NotFoundError) as e:
        client.chat.completions.create(model="../etc/passwd", messages=CAPITAL)
    assert e.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model="smollm2", messages=CAPITAL, temperature=9)
    assert e.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model="smollm2", messages=[
            {"role": "user", "content": "word " * 9000}])
    assert e.value.code == "context_length_exceeded"
    assert "8192" in e.value.message and "90" in e.value.message


def test_text_routes(server):
    tokens = server.post("/tokenize", {"content": "Hello world"}).json["tokens"]
    assert server.post("/detokenize", {"tokens": tokens}).json == {"content": "Hello world"}
    pieces = server.post("/tokenize", {"content": "Hello world", "with_pieces": True}).json
    assert [p["piece"] for p in pieces["tokens"]] == ["Hello", " world"]
    prompt = server.post("/apply-template", {"messages": CAPITAL}).json["prompt"]
    assert prompt.endswith("<|im_start|>assistant\n") and "France" in prompt


def test_many_streams_equal_the_same_alone(client):
    prompts = [f"Count from {i} to {i + 5}." for i in range(8)]

    def ask(text):
        stream = client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": text}], max_tokens=24,
            stream=True)
        return "".join(c.choices[0].delta.content or "" for c in stream)
    alone = [ask(p) for p in prompts]
    with concurrent.futures.ThreadPoolExecutor(len(prompts) * 2) as pool:
        together = list(pool.map(ask, prompts * 2))
    assert together == alone * 2


def test_response(client):
    answer = client.responses.create(
        model="smollm2", input="What is the capital of France?", max_output_tokens=32)
    assert answer.output_text == PARIS and answer.status == "completed"
    assert answer.usage.input_tokens == 37 and answer.usage.output_tokens > 5
    assert [o.type for o in answer.output] == ["message"]
    kept = client.responses.retrieve(answer.id)
    assert kept.output_text == PARIS
    more = client.responses.create(
        model="smollm2", input="And of Italy?", previous_response_id=answer.id,
        max_output_tokens=32)
    assert more.usage.input_tokens > 37 + answer.usage.output_tokens
    client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="smollm2", input="x", previous_response_id=answer.id)


def test_response_stream(client):
    with client.responses.stream(
            model="smollm2", input=[{"role": "user", "content": "What is the capital of France?"}],
            instructions="You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    ) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == PARIS
    types = [e.type for e in events]
    assert types[0] == "response.created" and types[-1] == "response.completed"
    for one in ("response.output_item.added", "response.content_part.added",
                "response.output_text.done", "response.output_item.done"):
        assert types.count(one) == 1, types
    assert [e.sequence_number for e in events if hasattr(e, "sequence_number")] == sorted(
        e.sequence_number for e in events if hasattr(e, "sequence_number"))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == PARIS


def test_response_cut_short(client):
    answer = client.responses.create(
        model="smollm2", input="Count to a hundred.", max_output_tokens=3, store=False)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
