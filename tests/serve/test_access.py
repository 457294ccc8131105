"""Who may ask (cases A of the test catalogue)."""

import json
import re
import signal
import socket
import time

import pytest

from conftest import read_until, until

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "ab"}], "max_tokens": 1}
KEY = "sk-something-secret"


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    import conftest
    folder = tmp_path_factory.mktemp("locked")
    keys = folder / "keys.txt"
    keys.write_text(f"# ours\nann:{KEY}\nbob:another-secret\n")
    server = conftest.Server("--model", "smollm2", "--api-key-file", keys)
    server.keys = keys
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize("headers", [
    {}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {KEY[:-1]}"},
    {"Authorization": f"Bearer {KEY}x"}, {"Authorization": "Bearer "},
    {"Authorization": "Bearer " + "x" * 10000}, {"Authorization": f"Basic {KEY}"},
    {"Authorization": KEY}, {"X-Api-Key": "wrong"},
    {"Authorization": f"Bearer {KEY}", "X-Api-Key": KEY},
    {"Authorization": f"Bearer {KEY}\r\nAuthorization: Bearer {KEY}"},
    {"Authorization": f"Bearer {KEY}, Bearer {KEY}"}, {"X-Api-Key": f"{KEY}\r\nX-Api-Key: {KEY}"},
    {"Cookie": f"api_key={KEY}"}, {"Proxy-Authorization": f"Bearer {KEY}"},
    {"Authorization": f"Bearer ann:{KEY}"}])
def test_no_entry(locked, headers):
    answer = locked.post(CHAT, HELLO, headers=headers)
    assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert answer.error["type"] == "authentication_error"
    assert KEY not in answer.raw.decode()


@pytest.mark.parametrize("headers", [
    {"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"},
    {"X-Api-Key": "another-secret"}])
def test_entry(locked, headers):
    assert locked.post(CHAT, HELLO, headers=headers).status == 200


def test_every_route_asks_for_a_key(locked):
    routes = locked.get("/props", headers={"X-Api-Key": KEY}).json["routes"]
    assert len(routes) > 10
    for route in [*routes, "GET /nothing", "POST /v1/nothing"]:
        method, path = route.split()
        answer = locked.ask(method, path.replace("*", "x"), {} if method in ("POST", "PUT") else None)
        assert answer.status == (200 if path.endswith("health") or path == "/" else
                                  404 if path.startswith("/page/") else 401), route
    assert locked.get(f"/v1/models?api_key={KEY}").status == 401


@pytest.mark.parametrize("path,entered,stranger", [
    ("/v1/models", 200, 401), ("//v1//models", 200, 401), ("/v1/models/", 200, 401),
    ("/v1/%6dodels", 200, 401), ("/%76%31/models", 200, 401), ("/v1/models?x=/health", 200, 401),
    ("/V1/models", 404, 401), ("/V1/MODELS", 404, 401), ("/Health", 404, 401),
    ("/nothing", 404, 401), ("/health/nothing", 404, 401), ("/healthx", 404, 401),
    ("/v1/models;a=b", 404, 401), ("/v1/%256dodels", 404, 401), ("/%252e%252e/v1/models", 404, 401),
    ("/page/%252e%252e/v1/models", 404, 404), ("/page/nothing", 404, 404),
    ("/v1/../admin", 400, 400), ("/v1/./models", 400, 400), ("/%2e%2e/v1/models", 400, 400),
    ("/page/../v1/models", 400, 400), ("/page/%2e%2e/v1/models", 400, 400),
    ("/page/..%2fv1/models", 400, 400), ("/health/../v1/models", 400, 400),
    ("/v1/models%00", 400, 400), ("/health%00/../v1/models", 400, 400), ("/v1/%", 400, 400),
    ("/v1\\models", 400, 400), ("/v1/%5cmodels", 400, 400), ("v1/models", 400, 400),
    ("/health", 200, 200), ("//health", 200, 200), ("/%68ealth", 200, 200)])
def test_paths_and_keys(locked, path, entered, stranger):
    """A path is made plain once, and then asks for a key as its route does."""
    answer = locked.get(path, headers={"X-Api-Key": KEY})
    assert answer.status == entered
    if entered >= 400:
        assert answer.error["message"] and "smollm2" not in answer.text
    answer = locked.get(path)
    assert answer.status == stranger
    assert "smollm2" not in answer.text


def test_what_another_key_has_kept(locked):
    """Ids of others look like ids of nobody."""
    ann, bob = {"X-Api-Key": KEY}, {"X-Api-Key": "another-secret"}
    body = {"input": "Hi", "max_output_tokens": 1}
    kept = locked.post("/v1/responses", body, headers=ann).json["id"]
    assert len(kept) > 32 and locked.get(f"/v1/responses/{kept}", headers=ann).status == 200
    assert locked.get(f"/v1/responses/{kept}", headers=bob).status == 404
    assert locked.ask("DELETE", f"/v1/responses/{kept}", headers=bob).status == 404
    more = {**body, "previous_response_id": kept}
    assert locked.post("/v1/responses", more, headers=bob).status == 404
    assert locked.post("/v1/responses", more, headers=ann).status == 200
    assert locked.ask("DELETE", f"/v1/responses/{kept}", headers=ann).status == 200


def stream(server, key, path, body, *headers):
    """A connection to read a streamed answer from."""
    data = json.dumps({**body, "stream": True}).encode()
    s = server.connect()
    head = [f"POST {path} HTTP/1.1", "Host: localhost", f"X-Api-Key: {key}", *headers,
            "Connection: close", f"Content-Length: {len(data)}"]
    s.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + data)
    return s


@pytest.fixture
def two_keys(serve, checkpoint, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("ann:first\nbob:second\nroot:third admin\n")
    return serve("--model", checkpoint(max_position_embeddings=32768), "--api-key-file", keys)


def test_streams_of_others(two_keys):
    """An answer that runs is nobody's to take over or to end but its client's."""
    server, bob, ann = two_keys, {"X-Api-Key": "second"}, {"X-Api-Key": "first"}
    body = {"input": "ab", "max_output_tokens": 10000, "ignore_eos": True, "temperature": 0}
    with stream(server, "first", "/v1/responses", body, "X-Request-Id: mine") as s:
        seen = read_until(s, b"output_text.delta")
        kept = re.search(rb'"id":"(resp-[0-9a-f]{32})"', seen).group(1).decode()
        for method, path in (
                ("GET", f"/v1/responses/{kept}"), ("DELETE", f"/v1/responses/{kept}"),
                ("POST", f"/v1/responses/{kept}/cancel"), ("POST", "/v1/cancel/mine"),
                ("GET", f"/v1/responses/{kept}?stream=true&starting_after=0"),
                ("DELETE", "/slots/0"), ("POST", "/slots/0?action=erase")):
            answer = server.ask(method, path, {} if method == "POST" else None, headers=bob)
            assert answer.status in (404, 405), path
        more = {"input": "ab", "previous_response_id": kept, "max_output_tokens": 1}
        assert server.post("/v1/responses", more, headers=bob).status == 404
        # The same name for a request is not the same request.
        same = {**bob, "X-Request-Id": "mine"}
        assert server.post("/v1/responses", {**more, "previous_response_id": None},
                           headers=same).status == 200
        with server.connect() as other:
            other.sendall(b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\n"
                          b"X-Api-Key: second\r\nX-Request-Id: mine\r\nContent-Length: 9\r\n\r\n{")
        assert [a["client"] for a in server.get("/slots", headers=ann).json] == ["ann"]
        rest = seen + read_until(s, b"0\r\n\r\n")
    assert b'"output_tokens":10000' in rest and b"event: response.incomplete" in rest
    assert server.get(f"/v1/responses/{kept}", headers=bob).status == 404
    assert server.ask("DELETE", f"/v1/responses/{kept}", headers=bob).status == 404
    assert server.get(f"/v1/responses/{kept}", headers=ann).status == 200


def test_what_is_seen_of_others(two_keys):
    """That a slot is busy and its counters; whose and which it is only with a key that administers."""
    server = two_keys
    ann, bob, root = ({"X-Api-Key": key} for key in ("first", "second", "third"))
    body = {"prompt": "ab", "max_tokens": 30000, "ignore_eos": True}
    with stream(server, "first", "/v1/completions", body, "X-Request-Id: of-ann") as s:
        seen = read_until(s, b'"text"')
        kept = re.search(rb'"id":"(cmpl-[0-9a-f]{32})"', seen).group(1).decode()
        for key in (ann, root):
            slot, = server.get("/slots", headers=key).json
            assert slot["request"] == "of-ann" and slot["client"] == "ann" and slot["id"] > 0
        slot, = server.get("/slots", headers=bob).json
        assert set(slot) == {"is_processing", "phase", "n_ctx", "n_prompt_tokens",
                             "n_prompt_tokens_processed", "n_decoded"}
        assert slot["is_processing"] and slot["n_decoded"] > 0
        for path in ("/slots", "/metrics", "/props", "/api/ps", "/v1/models", "/timeline"):
            text = server.get(path, headers=bob).text
            assert not re.search(rf"of-ann|\bann\b|{kept}", text), path
        s.shutdown(socket.SHUT_RDWR)
    until(lambda: server.get("/slots", headers=root).json == [])
    same = {"prompt": "ab", "max_tokens": 1}
    assert server.post("/v1/completions", same, headers={**bob, "X-Request-Id": "of-bob"}).status == 200

    def timeline(key):
        return [(one["request"], one["client"]) for one in server.get("/timeline", headers=key).json]
    assert timeline(ann) == [("of-ann", "ann")] and timeline(bob) == [("of-bob", "bob")]
    assert timeline(root) == [("of-bob", "bob"), ("of-ann", "ann")]


ADMIN = [
    "/load", "/unload", "/models/load", "/models/unload", "/v1/models/load", "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter", "/lora-adapters", "/api/pull", "/api/push", "/api/create", "/api/copy",
    "/api/delete", "/api/blobs/sha256:0", "/pause", "/sleep", "/wake_up", "/reset_prefix_cache",
    "/flush_cache", "/cache", "/shutdown", "/update_weights", "/invocations", "/collective_rpc",
    "/start_profile", "/admin", "/config", "/reload"]


def test_no_key_administers(two_keys):
    """There are no routes for it: models, adapters and limits are the command line's."""
    routes = two_keys.get("/props", headers={"X-Api-Key": "first"}).json["routes"]
    assert not [r for r in routes if r.split()[1] in ADMIN]
    for path in ADMIN:
        for method in ("GET", "POST", "PUT", "DELETE"):
            for key in ("first", "third"):
                body = {"model": "x"} if method in ("POST", "PUT") else None
                answer = two_keys.ask(method, path, body, headers={"X-Api-Key": key})
                assert answer.status in (404, 405), (method, path)
            assert two_keys.ask(method, path, headers={"Content-Length": "0"}).status == 401
    # What is shown cannot be set.
    for method, path in (("POST", "/slots"), ("POST", "/props"), ("DELETE", "/v1/models/model")):
        answer = two_keys.ask(method, path, {"x": 1}, headers={"X-Api-Key": "first"})
        assert answer.status == 405, path


def test_unloading_harms_nobody(two_keys):
    """`keep_alive: 0` may come from any key: what runs keeps its model, what comes
    next has it loaded again."""
    server, bob = two_keys, {"X-Api-Key": "second"}
    body = {"prompt": "ab", "max_tokens": 10000, "ignore_eos": True, "temperature": 0,
            "stream_options": {"include_usage": True}}
    with stream(server, "first", "/v1/completions", body) as s:
        seen = read_until(s, b'"text"')
        for _ in range(3):
            answer = server.post("/api/generate", {"model": "model", "keep_alive": 0}, headers=bob)
            assert answer.status == 200 and answer.json["done_reason"] == "unload"
        assert [a["phase"] for a in server.get("/slots", headers=bob).json] == ["answer"]
        seen += read_until(s, b"0\r\n\r\n")
    assert b'"completion_tokens":10000' in seen and b'"finish_reason":"length"' in seen
    assert b'"error"' not in seen and b"data: [DONE]" in seen
    until(lambda: server.get("/api/ps", headers=bob).json["models"] == [])
    for key in ("first", "second"):
        answer = server.post("/v1/completions", {"prompt": "ab", "max_tokens": 1},
                             headers={"X-Api-Key": key})
        assert answer.status == 200
    assert server.post("/api/generate", {"model": "model", "keep_alive": 0}).status == 401


def read_again(server, text, says="keys have been read again"):
    """Gives the server's key file this text, and comes back when the server has looked at it."""
    before = server.mark()
    server.keys.write_text(text)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(says, behind=before)


def test_keys_are_read_again(locked):
    old = locked.keys.read_text()
    read_again(locked, "cat:fresh-secret\n")
    assert locked.get("/v1/models", headers={"X-Api-Key": KEY}).status == 401
    assert locked.get("/v1/models", headers={"X-Api-Key": "fresh-secret"}).status == 200
    read_again(locked, ":\n", "old keys stay")
    assert locked.get("/v1/models", headers={"X-Api-Key": "fresh-secret"}).status == 200
    read_again(locked, old)


def test_keys_without_names_stay_apart(serve, checkpoint, tmp_path):
    """What one keeps is never another's, in whatever place of which list it stands."""
    keys = tmp_path / "keys.txt"
    keys.write_text("first\nsecond\n")
    server = serve("--model", checkpoint(), "--api-key", "zeroth", "--api-key-file", keys)
    server.keys = keys

    def ask(method, path, key, body=None):
        return server.ask(method, path, body, headers={"X-Api-Key": key})
    body = {"input": "ab", "max_output_tokens": 1}
    kept = {key: ask("POST", "/v1/responses", key, body).json["id"]
            for key in ("zeroth", "first", "second")}

    def seen(*by):
        for key in by:
            for owner, name in kept.items():
                assert ask("GET", f"/v1/responses/{name}", key).status == (200 if key == owner else 404)
    seen("zeroth", "first", "second")
    read_again(server, "third\nsecond\n")
    seen("zeroth", "second", "third")
    read_again(server, "fourth\nfirst\n")
    seen("zeroth", "fourth")


def test_a_file_without_keys_opens_nothing(locked):
    old = locked.keys.read_text()
    for text in ("", "# nobody\n", "ann:x y=5\n", "ann:x until=2020-13-01\n", "ann:x answers=0\n"):
        read_again(locked, text, "old keys stay")
        assert locked.get("/v1/models").status == 401
        assert locked.get("/v1/models", headers={"X-Api-Key": KEY}).status == 200
    read_again(locked, old)
    assert "x y=5" not in "\n".join(locked.lines)


def test_limits_and_ends_of_keys(serve, tmp_path):
    """Each key has its own; an answer that runs outlives its key."""
    keys = tmp_path / "keys.txt"
    soon = time.gmtime(time.time() + 600)
    keys.write_text(f"two:second answers=2\nold:past until=2020-01-31\nfree:other\n"
                    f"late:future until={time.strftime('%Y-%m-%dT%H:%M:%SZ', soon)}\n")
    server = serve("--model", "smollm2", "--api-key-file", keys)
    server.keys = keys

    def ask(key, **more):
        return server.post(CHAT, {**HELLO, **more}, headers={"X-Api-Key": key})
    assert ask("past").status == 401 and ask("second answers=2").status == 401
    assert ask("future").status == 200
    assert ask("second", n=2).status == 200
    answer = ask("second", n=3)
    assert answer.status == 429 and "answers of the key" in answer.error["message"]
    assert answer.error["code"] == "queue_full" and int(answer.headers["retry-after"]) > 0
    assert ask("other", n=3).status == 200
    long = {**HELLO, "max_tokens": 8000, "ignore_eos": True, "n": 2}
    with stream(server, "second", CHAT, long) as running:
        def decoded():
            return [one["n_decoded"] for one in
                    server.get("/slots", headers={"X-Api-Key": "other"}).json]
        until(lambda: len(decoded()) == 2)
        assert ask("second").status == 429
        assert ask("other").status == 200
        read_again(server, "free:other\n")
        assert ask("second").status == 401 and ask("future").status == 401
        before = decoded()
        until(lambda: all(now > then + 8 for now, then in zip(decoded(), before, strict=True)))
        assert b'"error"' not in read_until(running, b'"content":"')
    assert ask("other").status == 200


def test_a_key_that_ends(serve, checkpoint, tmp_path):
    """From its time on nothing more may be asked with it; what has been asked is answered."""
    keys = tmp_path / "keys.txt"
    keys.write_text("ann:first\n")
    server = serve("--model", checkpoint(max_position_embeddings=32768), "--decode-concurrency", 1,
                   "--api-key-file", keys)
    server.keys = keys
    ann, bob = {"X-Api-Key": "first"}, {"X-Api-Key": "second"}

    def ask(key, **body):
        data = json.dumps({"prompt": "ab", "ignore_eos": True, **body}).encode()
        s = server.connect()
        s.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {key}\r\n"
                  f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        return s

    def of_others():
        return [slot for slot in server.get("/slots", headers=ann).json if "client" not in slot]
    for seconds in (2, 8, 30):
        # Enough for that time, and all of it before the last.
        before = [ask("first", max_tokens=30000) for _ in range(40)]
        until(lambda: len(server.get("/slots", headers=ann).json) > 30)
        end = int(time.time()) + seconds
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))
        read_again(server, f"ann:first\nbob:second until={ends}\n")
        with ask("second", max_tokens=2, priority=1000) as waits:
            until(lambda: of_others() or time.time() >= end)
            until(lambda: server.get("/v1/models", headers=bob).status == 401)
            assert time.time() >= end
            for s in before:
                s.close()
            answer = read_until(waits, b"}\n")
        if not answer.startswith(b"HTTP/1.1 401 "):  # a machine that was too slow for its time
            break
    assert b'"completion_tokens":2' in answer
    assert server.post("/v1/completions", {"prompt": "a"}, headers=bob).status == 401
    assert server.get("/v1/models", headers=ann).status == 200


def test_prompts_of_others_change_nothing(locked):
    """What one key has sent makes another's equal beginning quick, and no more."""
    ann, bob = {"X-Api-Key": KEY}, {"X-Api-Key": "another-secret"}
    secret = "The word of ann is heliotrope. " * 20
    body = {"prompt": secret + "And then", "max_tokens": 8, "temperature": 0}
    first = locked.post("/v1/completions", body, headers=ann).json
    second = locked.post("/v1/completions", body, headers=bob).json
    assert second["choices"] == first["choices"]
    other = {"prompt": "The word of ann is", "max_tokens": 8, "temperature": 0}
    with_others = locked.post("/v1/completions", other, headers=bob).json["choices"]
    assert with_others == locked.post("/v1/completions", {**other, "cache_prompt": False},
                                      headers=bob).json["choices"]
    assert "heliotrope" not in with_others[0]["text"]
    assert "heliotrope" not in locked.get("/slots", headers=bob).text
    assert "heliotrope" not in locked.get("/metrics", headers=bob).text


SALTED = """ann:first
bob:second
cat:third private
dan:fourth salt=ours
eve:fifth salt=ours
fay:sixth salt=theirs
"""
SALTS = {"first": "", "second": "", "third": "private", "fourth": "ours", "fifth": "ours",
         "sixth": "theirs"}


def test_salts_of_prefixes(serve, checkpoint, tmp_path):
    """How quickly a prompt is read tells only of prompts of the same salt, in memory and on disk."""
    keys = tmp_path / "keys.txt"
    keys.write_text(SALTED)
    command = ("--model", checkpoint(max_position_embeddings=512), "--api-key-file", keys,
               "--prompt-cache-dir", tmp_path / "disk")
    server = serve(*command)

    def cached(key, prompt, path="/v1/completions", **more):
        asked = {"prompt": prompt} if path != CHAT else {
            "messages": [{"role": "user", "content": prompt}]}
        answer = server.post(path, {**asked, "max_tokens": 1, **more}, headers={"X-Api-Key": key})
        assert answer.status == 200 and "x-unknown-fields" not in answer.headers
        return answer.json["usage"]["prompt_tokens_details"]["cached_tokens"]

    known = set()  # prompts and salts

    def ask(key, prompt, salt=None, path="/v1/completions"):
        more = {"cache_salt": salt} if salt else {}
        which = (path, prompt, SALTS[key], salt)
        assert (cached(key, prompt, path, **more) > 0) == (which in known), (key, salt)
        known.add(which)

    first, second, third = "abcdefgh" * 20, "bcdefgha" * 20, "cdefghab" * 20
    for key in [*SALTS, *SALTS]:
        ask(key, first)
    for key in ("fifth", "third", "first", "second", "sixth", "fourth"):
        # A salt of a request is one within its key's: it names nobody else's.
        for salt in ("x", None, "salt ours", "ours", "salt ours\nx", "\nx", "x"):
            ask(key, second, salt)
        ask(key, third, "y", CHAT)
    assert cached("first", first, cache_prompt=False) == 0
    assert server.stop() == 0
    server = serve(*command)
    for key in ("third", "sixth", "first", "fourth"):
        for salt in (None, "new", "x"):
            ask(key, second, salt)
    assert not any(word in str(server.log()) for word in ("private", "salt", "ours"))


@pytest.mark.parametrize("path", [
    CHAT, "/v1/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate"])
def test_salts_of_requests(server, path):
    body = {"model": "smollm2", "max_tokens": 1, "stream": False, "options": {"num_predict": 1}}
    if path == "/v1/responses":
        body = {"input": "ab", "max_output_tokens": 16}
    elif path in ("/v1/completions", "/api/generate"):
        body["prompt"] = "ab"
    else:
        body["messages"] = HELLO["messages"]
    for salt in ("", "x" * 513, 5, ["x"]):
        answer = server.post(path, {**body, "cache_salt": salt})
        assert answer.status == 400 and "cache_salt" in answer.text, answer.text
    answer = server.post(path, {**body, "cache_salt": "é", "cache_prompt": False})
    assert answer.status == 200 and "cache" not in answer.headers.get("x-unknown-fields", "")


def test_log_has_no_secrets(locked):
    ids = [{"X-Request-Id": name} for name in ("with-key", "key-in-path")]
    locked.post(CHAT, HELLO, headers={"X-Api-Key": KEY, **ids[0]})
    locked.get(f"/v1/models?api_key={KEY}", headers=ids[1])
    assert locked.logged(id="with-key")["client"] == "ann"
    locked.logged(id="key-in-path")
    assert KEY not in "\n".join(locked.lines)


@pytest.mark.parametrize("host,status", [
    ("localhost", 200), ("LOCALHOST:8080", 200), ("127.0.0.1", 200), ("[::1]:80", 200),
    ("evil.com", 403), ("127.0.0.1.nip.io", 403), ("localhost.evil.com", 403),
    ("localhost.", 200), ("[::1]", 200), ("127.0.0.1:1", 200), ("127.9.9.9", 200),
    ("[::1", 403), ("[::2]", 403), ("0.0.0.0", 403), ("10.0.0.1:8080", 403), ("localhost@evil.com", 403),
    ("localhost/evil.com", 403), ("localhost evil.com", 403), ("127.0.0.1:80:80", 403),
    ("localhost:123456", 403), ("localhost:x", 403), ("", 403), (None, 400)])
def test_hosts(server, host, status):
    for path in ("/v1/models", "/health", "/"):
        answer = server.get(path, headers={"Host": host})
        assert answer.status == status
        if status == 403:
            assert answer.error["code"] == "host_not_allowed"


def test_two_hosts(server):
    raw = server.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: x\r\n"
                     b"Connection: close\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 400 ")


FOREIGN = ("http://evil.com", "null", "http://localhost:3000", "http://127.0.0.1", "file://", "")


def permissions(answer):
    return [name for name in answer.headers if name.startswith("access-control-")]


def test_origins(server):
    own = server.post(CHAT, HELLO, headers={"Origin": server.url})
    assert own.status == 200 and own.headers["access-control-allow-origin"] == server.url
    assert "access-control-allow-credentials" not in own.headers
    routes = [route.split() for route in server.get("/props").json["routes"]]
    changing = [(method, path.replace("*", "x")) for method, path in routes if method != "GET"]
    assert len(changing) > 15
    for origin in FOREIGN:
        for method, path in [*changing, ("POST", "/nothing"), ("PATCH", CHAT)]:
            body = None if method == "DELETE" else HELLO
            answer = server.ask(method, path, body, headers={"Origin": origin})
            assert answer.status == 403 and not permissions(answer), (origin, method, path)
        answer = server.get("/v1/models", headers={"Origin": origin})
        assert answer.status == 200 and not permissions(answer)
        assert answer.headers["vary"] == "Origin"


def test_preflight(server):
    asked = {"Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "content-type, authorization"}
    own = server.ask("OPTIONS", CHAT, headers={"Origin": server.url, **asked})
    assert own.status == 204 and "POST" in own.headers["access-control-allow-methods"]
    assert "authorization" in own.headers["access-control-allow-headers"]
    for origin in FOREIGN:
        other = server.ask("OPTIONS", CHAT, headers={"Origin": origin, **asked})
        assert other.status == 204 and not permissions(other)


def test_allowed_names(serve, checkpoint):
    server = serve("--model", checkpoint(), "--allowed-hosts", "box.lan", "--allowed-origins",
                   "http://page.lan")
    answer = server.post(CHAT, HELLO, headers={"Host": "box.lan", "Origin": "http://page.lan"})
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "http://page.lan"
    assert server.get("/health", headers={"Host": "other.lan"}).status == 403


def test_open_bind_needs_a_key(serve, checkpoint):
    closed = serve("--model", checkpoint(), "--host", "0.0.0.0", ready=False)
    assert closed.ended() == 2 and "--api-key" in "".join(closed.lines)
    serve("--model", checkpoint("b"), "--host", "0.0.0.0", "--insecure", host="127.0.0.1")
