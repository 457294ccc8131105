"""What the server says of itself at /openapi.json: valid, and all of it."""

import re

import pytest
from jsonschema import Draft202012Validator

from conftest import ROOT


@pytest.fixture
def document(server):
    return server.get("/openapi.json").json


def parts_of(document, path, method="post"):
    """Of a body's schema, references followed."""
    body = document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    schemas = document["components"]["schemas"]
    return [schemas[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
            for part in body.get("allOf", [body])]


def operations(document):
    return [(path, method, entry) for path, entries in document["paths"].items()
            for method, entry in entries.items()]


def test_valid(document):
    """To somebody else's reader of the standard, and without fields that it has not."""
    standard = pytest.importorskip("openapi_pydantic")

    def walk(part):
        if isinstance(part, standard.Schema):
            return  # see below
        assert not getattr(part, "model_extra", None), part
        for one in (part.values() if isinstance(part, dict) else part if isinstance(part, list)
                    else (getattr(part, name) for name in getattr(type(part), "model_fields", ()))):
            walk(one)
    walk(standard.OpenAPI.model_validate(document))


def test_parts_fit_together(document):
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    names = [entry["operationId"] for _, _, entry in operations(document)]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[a-z]\w+", n) for n in names)
    for path, method, entry in operations(document):
        inner = re.findall(r"{(\w+)}", path)
        assert [p["name"] for p in entry.get("parameters", []) if p["in"] == "path"] == inner
        for scheme in entry.get("security", []):
            assert set(scheme) <= set(document["components"]["securitySchemes"])
        if "requestBody" in entry:
            for part in parts_of(document, path, method):
                Draft202012Validator.check_schema(part)
    told = str(document)
    assert {name for name in schemas if f"'#/components/schemas/{name}'" in told} == set(schemas)


def test_every_route(server, document):
    """With its key, its body and what that must have."""
    routes = {route.replace("*", "{id}") for route in server.get("/props").json["routes"]}
    assert {f"{method.upper()} {path}" for path, method, _ in operations(document)} == routes
    for path, method, entry in operations(document):
        is_open = path in ("/", "/health", "/v1/health") or path.startswith("/page/")
        assert ("security" in entry) != is_open, path
        assert ("requestBody" in entry) == (method in ("post", "put")), path
        if method != "post":
            continue
        required = {name for part in parts_of(document, path) for name in part.get("required", [])}
        answer = server.post(path, {} if path.startswith("/api") else {"model": "smollm2"})
        assert answer.status == 400 and any(name in answer.text for name in required), path


def test_every_setting(server, document):
    """Of the table that flags are made of, with the bounds that hold."""
    sampling = document["components"]["schemas"]["Sampling"]["properties"]
    table = (ROOT / "src/settings/generation.cpp").read_text()
    assert set(re.findall(r'{{"(\w+)", "--', table)) == set(sampling) and len(sampling) > 30
    assert sampling["top_p"]["maximum"] == 1 and sampling["temperature"]["type"] == "number"
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/infill"):
        merged = {}
        for part in parts_of(document, path):
            merged.update(part["properties"])
        assert set(sampling) <= set(merged) and {"model", "cache_salt", "stream"} <= set(merged)
    for path in ("/api/chat", "/api/generate"):
        options = [part["properties"]["options"] for part in parts_of(document, path)
                   if "options" in part["properties"]]
        assert options == [{"$ref": "#/components/schemas/Sampling"}]
    for name, row in sampling.items():
        if row["type"] in ("integer", "number"):
            low, high = row["minimum"], row["maximum"]
            for wrong in (low - abs(low) - 1, high * 2 + 1):
                answer = server.post("/v1/completions", {"prompt": "a", "max_tokens": 1, name: wrong})
                assert answer.status == 400 and answer.error["param"] == name, (name, wrong)
            for right in (low, high) if name not in ("seed", "max_tokens") else (5,):
                answer = server.post("/v1/completions", {"prompt": "a", "max_tokens": 1, name: right})
                assert answer.status == 200, (name, right, answer.text)
