"""Several models behind one server: on demand, within a budget, with adapters and drafts."""

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import PROGRAM, Response, cli, environment, read_until, rest, until

BIG = 16384  # intermediate size of a checkpoint of 3.1 MB


@pytest.fixture
def tiny(checkpoint):
    """A tiny Llama that takes 512 tokens; `inner` makes it larger."""
    def write(name, inner=None, **changes):
        files = {}
        if inner:
            changes["intermediate_size"] = inner
            files["model.safetensors"] = cli.safetensors(
                cli.shapes({**cli.CONFIG, "intermediate_size": inner}))
        return checkpoint(name, files=files, **{"max_position_embeddings": 512, **changes})
    return write


@pytest.fixture
def adapters(tmp_path):
    """A folder with two LoRAs of the tiny Llama, `tuned` and `bent`."""
    for name, scale in (("tuned", 2000.0), ("bent", -900.0)):
        folder = tmp_path / "adapters" / name
        folder.mkdir(parents=True)
        module = "model.layers.0.self_attn.q_proj"
        (folder / "adapters.safetensors").write_bytes(cli.safetensors(
            {module + ".lora_a": [16, 2], module + ".lora_b": [2, 16],
             "model.layers.0.mlp.down_proj.lora_a": [32, 2],
             "model.layers.0.mlp.down_proj.lora_b": [2, 16]}))
        (folder / "adapter_config.json").write_text(json.dumps({
            "fine_tune_type": "lora", "num_layers": 1,
            "lora_parameters": {"rank": 2, "scale": scale, "dropout": 0.0,
                                "keys": ["self_attn.q_proj", "mlp.down_proj"]}}))
    return tmp_path / "adapters"


def complete(server, prompt="abc abc abc", **more):
    body = {"prompt": prompt, "max_tokens": 12, "temperature": 0, "ignore_eos": True, **more}
    return server.post("/v1/completions", body)


def text(server, **more):
    answer = complete(server, **more)
    assert answer.status == 200, answer.raw
    return answer.json["choices"][0]["text"]


def loaded(server):
    return {m["name"]: m for m in server.get("/api/ps").json["models"]}


@pytest.fixture
def two(serve, tiny):
    """`one`, loaded, and `second`, on demand."""
    return serve("--model", tiny("one"), "--model", f"second={tiny('other', rope_theta=3.0)}")


def test_models_of_openai(two):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=two.url + "/v1", api_key="none", max_retries=0)
    assert [m.id for m in client.models.list()] == ["one", "second"]
    assert [m["loaded"] for m in two.get("/v1/models").json["data"]] == [True, False]
    assert client.models.retrieve("second").id == "second"
    answer = client.chat.completions.create(
        model="second", max_tokens=3, messages=[{"role": "user", "content": "abc"}])
    assert answer.model == "second" and answer.usage.completion_tokens > 0
    assert set(loaded(two)) == {"one", "second"}
    with client.chat.completions.create(
            model="second", max_tokens=3, stream=True,
            messages=[{"role": "user", "content": "abc"}]) as stream:
        assert {c.model for c in stream} == {"second"}
    assert complete(two).json["model"] == "one"  # the first
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="third", messages=[{"role": "user", "content": "a"}])
    assert error.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("third")


def test_unknown_models_in_every_shape(two):
    hello = [{"role": "user", "content": "a"}]
    for name in ("ONE", "../one", "/etc/passwd", "one\0", "x" * 4000, "http://a/b", "one+tuned"):
        answer = two.post("/v1/messages", {"model": name, "max_tokens": 1, "messages": hello})
        assert answer.status == 404 and answer.error["type"] == "not_found_error"
        answer = two.post("/api/chat", {"model": name, "messages": hello})
        assert answer.status == 404 and isinstance(answer.json["error"], str)
        answer = complete(two, model=name)
        assert answer.status == 404 and answer.error["code"].endswith("_not_found")
        assert two.post("/tokenize", {"model": name, "content": "a"}).status == 404


def test_models_of_ollama(two):
    package = pytest.importorskip("ollama")
    client = package.Client(host=two.url)
    assert [m.model for m in client.list().models] == ["one", "second"]
    assert [m.model for m in client.ps().models] == ["one"]
    assert client.show("second").modelinfo["llama.context_length"] == 512
    assert [m.model for m in client.ps().models] == ["one"]  # showing is not loading

    assert client.chat(model="second").done_reason == "load"
    assert client.generate(model="second", keep_alive="10m").done_reason == "load"
    left = next(m for m in client.ps().models if m.model == "second").expires_at.timestamp() - time.time()
    assert 500 < left < 601
    client.generate(model="second", prompt="abc", options={"num_predict": 2}, keep_alive=-1)
    assert loaded(two)["second"]["expires_at"].startswith("9999")
    client.chat(model="second", messages=[{"role": "user", "content": "abc"}],
                options={"num_predict": 2}, keep_alive=0)
    until(lambda: "second" not in loaded(two))
    client.generate(model="second", prompt="abc", options={"num_predict": 2})
    assert client.generate(model="second", keep_alive=0).done_reason == "unload"
    until(lambda: "second" not in loaded(two))
    with pytest.raises(package.ResponseError) as error:
        client.generate(model="second", prompt="abc", keep_alive="soon")
    assert error.value.status_code == 400 and "keep_alive" in error.value.error


def test_ten_who_ask_load_it_once(two):
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: text(two, model="second"), range(10)))
    assert len(set(answers)) == 1
    two.wait_for("second is loaded")
    assert sum("second is loaded" in line for line in two.lines) == 1


def test_idle_ones_go(serve, tiny):
    server = serve("--model", tiny("one"), "--model", tiny("two"), "--keep-alive", "200ms")
    until(lambda: not loaded(server))
    assert text(server, model="one") == text(server, model="one")
    until(lambda: not loaded(server))
    assert server.get("/health").status == 200
    assert server.get("/metrics").status == 200 and server.get("/props").status == 200


def test_a_long_answer_is_no_idleness(serve):
    server = serve("--model", "smollm2", "--keep-alive", "200ms")
    with begin(server, max_tokens=8000, ignore_eos=True, stream=True) as running:
        read_until(running, b"data: ")
        before = server.mark()
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert running.recv(65536)
        assert loaded(server)
        assert not any("unloaded" in line for line in server.lines[before:])
    until(lambda: not loaded(server))
    server.wait_for("smollm2 is unloaded: idle", behind=before)


def begin(server, **body):
    """A request whose answer is not read yet."""
    data = json.dumps({"prompt": "abc", **body}).encode()
    s = server.connect()
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
              b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
    return s


def test_streams_live_while_a_model_is_waited_for(serve, tiny):
    """No room for `two` while `one` answers: a stream is told that all is well."""
    server = serve("--model", tiny("one", BIG, max_position_embeddings=100000),
                   "--model", tiny("two", 3 * BIG), "--memory-budget", 10,
                   "--load-wait-seconds", 60, "--ping-seconds", 1)
    with begin(server, model="one", max_tokens=90000, ignore_eos=True) as long:
        until(lambda: [slot["phase"] for slot in server.get("/slots").json] == ["answer"])
        asked = time.monotonic()
        with begin(server, model="two", max_tokens=1, stream=True) as waits:
            seen, told = b"", []
            while len(told) < 2:
                piece = waits.recv(4096)
                assert piece, seen  # it may not end before `one` does
                seen += piece
                told += [time.monotonic()] * piece.count(b": keepalive loading\n\n")
            assert told[0] - asked > 0.9 and told[1] - asked > 1.9  # it may be read late
            assert seen.startswith(b"HTTP/1.1 200 ") and b"data:" not in seen
            long.close()  # nobody needs `one` any more
            seen = rest(waits, seen)
    answer = Response(seen)
    assert answer.text.count("HTTP/1.1") == 0 and answer.events()[-1] == "[DONE]"
    assert json.loads(answer.events()[0])["model"] == "two"


def test_the_budget(serve, tiny):
    one, two, huge = tiny("one", BIG), tiny("two", BIG), tiny("huge", 3 * BIG)
    server = serve("--model", one, "--model", two, "--model", huge, "--memory-budget", 5)
    first = text(server, model="one")
    text(server, model="two")
    assert set(loaded(server)) == {"two"}
    answer = complete(server, model="huge")
    assert answer.status == 503 and answer.error["code"] == "insufficient_memory"
    assert "9.44 MB" in answer.error["message"] and "5.00 MB" in answer.error["message"]
    assert "retry-after" not in answer.headers
    assert set(loaded(server)) == {"two"}
    assert text(server, model="one") == first


def test_a_running_answer_keeps_its_model(serve, tiny):
    server = serve("--model", tiny("one", BIG, max_position_embeddings=100000),
                   "--model", tiny("two", 3 * BIG), "--memory-budget", 10,
                   "--load-wait-seconds", 1)
    with begin(server, model="one", max_tokens=90000, ignore_eos=True):
        until(lambda: [slot["phase"] for slot in server.get("/slots").json] == ["answer"])
        answer = complete(server, model="two", max_tokens=1)
        assert answer.status == 503
        assert answer.headers["retry-after"] and "one" not in answer.error["message"]
        assert set(loaded(server)) == {"one"}
    server.idle()
    assert complete(server, model="two", max_tokens=1).status == 200


def test_a_failed_load_can_be_tried_again(serve, tiny):
    broken = tiny("broken")
    server = serve("--model", tiny("one"), "--model", broken)
    (broken / "tokenizer.json").rename(broken / "away")
    for _ in range(2):
        answer = complete(server, model="broken")
        assert answer.status == 500 and answer.error["code"] == "model_not_loaded"
    assert str(broken) not in answer.text  # the log has it
    server.wait_for("broken: .*tokenizer")
    (broken / "away").rename(broken / "tokenizer.json")
    assert text(server, model="broken") == text(server, model="one")


def test_a_folder(serve, tiny, tmp_path):
    (tmp_path / "org").mkdir()
    for name in ("one", "org/two", "damaged"):
        tiny(name)
    (tmp_path / "damaged" / "config.json").write_text("{")
    server = serve("--models-dir", tmp_path)
    assert [m["id"] for m in server.get("/v1/models").json["data"]] == ["one", "org/two"]
    server.wait_for("damaged is left out")
    assert not loaded(server)
    assert server.get("/health").status == 200
    answer = complete(server)
    assert answer.status == 400 and answer.error["param"] == "model"
    assert complete(server, model="org/two").json["model"] == "org/two"
    assert server.get("/v1/models/org/two").json["loaded"]


def test_adapters(serve, tiny, adapters):
    server = serve("--model", tiny("one"), "--adapters-dir", adapters)
    plain = text(server)
    tuned = text(server, adapters="tuned")
    assert tuned != plain
    assert text(server) == plain and text(server, model="one+tuned") == tuned
    with ThreadPoolExecutor(8) as pool:
        mixed = list(pool.map(
            lambda i: text(server, adapters="tuned" if i % 2 else None), range(8)))
    assert mixed == [plain, tuned] * 4
    assert set(loaded(server)) == {"one", "one+tuned"}
    for name in ("other", "../adapters/tuned", str(adapters / "tuned"), ".", "tuned/"):
        answer = complete(server, adapters=name)
        assert answer.status == 404 and answer.error["param"] == "adapters"
    assert complete(server, adapters=["tuned"]).status == 400


def test_adapters_in_one_batch(serve, tiny, adapters):
    """Each gets what it gets alone, of one model in memory."""
    server = serve("--model", tiny("one"), "--adapters-dir", adapters)
    asked = [dict(adapters=name, prompt=prompt, max_tokens=tokens)
             for prompt, tokens in (("abc abc abc", 40), ("x" * 130, 200), ("a", 90))
             for name in (None, "tuned", "bent")]
    alone = [text(server, **one) for one in asked]
    for i in range(0, len(asked), 3):
        assert len(set(alone[i:i + 3])) == 3
    assert set(loaded(server)) == {"one", "one+tuned", "one+bent"}
    sizes = {name: model["size"] for name, model in loaded(server).items()}
    assert 0 < sizes["one+tuned"] == sizes["one+bent"] < sizes["one"] / 2
    with ThreadPoolExecutor(len(asked)) as pool:
        for _ in range(4):
            assert list(pool.map(lambda one: text(server, **one), asked)) == alone
    assert sum("one is loaded" in line for line in server.lines) == 1
    # They go when nobody asks for them, and come again.
    for one in asked[1:3]:
        text(server, **one, keep_alive="100ms")
    until(lambda: not set(loaded(server)) & {"one+tuned", "one+bent"})
    assert text(server, **asked[1]) == alone[1]


def test_adapters_need_a_folder(two):
    assert complete(two, adapters="tuned").status == 404


def test_drafts(serve, tiny):
    model = tiny("one")
    server = serve("--model", model, "--draft-model", model)
    prompt = "abcabcabcabcabcabc"
    plain = text(server, prompt=prompt, draft="none")
    for more in ({}, {"draft_model": "one"}, {"draft_model": "default_model", "num_draft_tokens": 2},
                 {"draft": "prompt-lookup"}, {"draft": "model"}):
        assert text(server, prompt=prompt, **more) == plain
    answer = server.post("/v1/chat/completions", {
        "messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 12,
        "ignore_eos": True, "draft_model": "one"}).json
    assert answer["timings"]["draft_n"] >= answer["timings"]["draft_n_accepted"] > 0
    assert complete(server, draft_model="../x").status == 404
    assert complete(server, draft="magic").status == 400
    assert complete(server, num_draft_tokens=100).status == 400


def test_no_draft_model(two):
    assert complete(two, draft_model="one").status == 404
    assert complete(two, draft="model").status == 400
    assert text(two, draft="prompt-lookup") == text(two)


def test_prompts_on_disk(serve, tiny, tmp_path, adapters):
    model, prompt = tiny("one"), "abcdefgh" * 25
    asked = ("--model", model, "--adapters-dir", adapters, "--prompt-cache-dir", tmp_path / "disk")

    def cached(server, **more):
        answer = complete(server, prompt=prompt, **more).json
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["choices"][0]["text"]

    first = serve(*asked)
    nothing, plain = cached(first)
    assert nothing == 0
    assert first.stop() == 0
    again = serve(*asked)
    assert cached(again, adapters="tuned")[0] == 0  # nothing crosses adapters
    found, same = cached(again)
    assert found >= 128 and same == plain


def run(*arguments):
    return subprocess.run([PROGRAM, "serve", *map(str, arguments)], capture_output=True,
                          text=True, timeout=120, env=environment({}))


def test_wrong_command_lines(tiny, tmp_path):
    one = tiny("one")
    for arguments, code in (
            (("--model", one, "--keep-alive", "soon"), 2),
            (("--model", "=x"), 2),
            (("--model", one, "--model", one), 1),
            (("--models-dir", tmp_path / "nowhere"), 1),
            (("--model", one, "--adapters-dir", tmp_path / "nowhere"), 1),
            (("--host", "0.0.0.0", "--insecure", "--conversations", tmp_path / "c.db"), 2)):
        done = run("--port", 0, *arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_strangers_find_no_conversations(serve, tiny, tmp_path):
    server = serve("--model", tiny("one"), "--host", "0.0.0.0", "--insecure", keeps=True)
    server.wait_for("conversations are not kept")
    for path in ("/conversations", "/conversations/x"):
        assert server.get(path).status == 404
    put = server.ask("PUT", "/conversations/x", {"id": "x", "title": "t", "updated": 1, "nodes": []})
    assert put.status == 404
