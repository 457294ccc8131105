"""Random JSON schemas of everything that answers can be held to, each small enough
that its answers are short."""

import datetime
import json
import random
import re

import jsonschema

WORDS = ["name", "age", "city", "kind", "size", "tags", "note", "id", "level", "x y", "été"]


def make(seed):
    """A schema, the same for the same seed."""
    maker = Maker(random.Random(seed))
    schema = maker.schema(3 if seed % 4 == 0 else 2, top=True)
    if maker.definitions:
        schema = {**schema, "$defs": maker.definitions}
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


class Maker:
    def __init__(self, random):
        self.random, self.definitions = random, {}

    def schema(self, depth, top=False):
        leaves = [self.number, self.integer, self.string, self.pattern, self.format,
                  self.enum, self.const, self.plain]
        nested = [self.object, self.object, self.array, self.tuple, self.any_of,
                  self.one_of, self.tagged, self.all_of, self.reference, self.dictionary]
        if depth == 0:
            return self.random.choice(leaves)()
        return self.random.choice(nested if top else leaves + nested)(depth - 1)

    # ---- leaves; what is nested calls them with a depth that they do not need

    def plain(self, _=0):
        return self.random.choice([
            {"type": "boolean"}, {"type": "null"}, {"type": ["boolean", "null"]},
            {"type": ["string", "null"], "maxLength": 8}])

    def integer(self, _=0):
        low = self.random.choice([-1000, -7, 0, 1, 12, 99])
        out = {"type": "integer", "minimum": low, "maximum": low + self.random.randint(0, 500)}
        if self.random.random() < 0.3:
            out["exclusiveMaximum"] = out.pop("maximum") + 1
        if self.random.random() < 0.3 and low <= 0:
            out["multipleOf"] = self.random.choice([2, 5, 7])
        return out

    def number(self, _=0):
        low = self.random.choice([-2.5, 0, 0.25, 10])
        out = {"type": "number", "minimum": low, "maximum": low + self.random.choice([1, 2.5, 100])}
        if self.random.random() < 0.7:
            out["multipleOf"] = self.random.choice([0.5, 0.25])
        return out

    def string(self, _=0):
        low = self.random.randint(0, 5)
        return {"type": "string", "minLength": low, "maxLength": low + self.random.randint(0, 10)}

    def pattern(self, _=0):
        return {"type": "string", "pattern": self.random.choice([
            r"^[a-z]{2,5}-[0-9]{2}$", r"^(red|green|blue)( dark)?$", r"^\d{3}$", r"^[A-Z]\w{0,6}$",
            r"^#[0-9a-f]{6}$", r"^a+b?c{1,2}$"]), "maxLength": 12}

    def format(self, _=0):
        return {"type": "string", "format": self.random.choice([
            "date", "uuid", "ipv4", "date", "time", "date-time"]), "maxLength": 40}

    def enum(self, _=0):
        values = ["red", "green", "a \"quoted\" word", "naïve", 1, 2.5, -3, True, None, [1, "a"],
                  {"a": 1}]
        return {"enum": self.random.sample(values, self.random.randint(1, 4))}

    def const(self, _=0):
        return {"const": self.random.choice(["yes", 7, 0.5, False, None, [], {"k": [1, 2]}, "été"])}

    # ---- nested

    def object(self, depth):
        names = self.random.sample(WORDS, self.random.randint(1, 4))
        properties = {name: self.schema(depth) for name in names}
        return {"type": "object", "properties": properties, "additionalProperties": False,
                "required": [name for name in names if self.random.random() < 0.6]}

    def dictionary(self, depth):
        out = {"type": "object", "additionalProperties": self.schema(0)}
        if self.random.random() < 0.5:
            out = {"type": "object", "additionalProperties": False,
                   "patternProperties": {"^[a-c]{1,3}$": self.schema(0)}}
        return {**out, "maxProperties": self.random.randint(0, 2)}

    def array(self, depth):
        low = self.random.randint(0, 2)
        return {"type": "array", "items": self.schema(depth), "minItems": low,
                "maxItems": low + self.random.randint(0, 2)}

    def tuple(self, depth):
        items = [self.schema(depth) for _ in range(self.random.randint(1, 3))]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}

    def any_of(self, depth):
        return {"anyOf": [self.schema(depth) for _ in range(self.random.randint(1, 3))]}

    def one_of(self, depth):
        """Alternatives of other types."""
        ways = [self.integer(), self.string(), {"type": "null"}, {"type": "boolean"},
                self.array(depth), self.object(depth)]
        return {"oneOf": self.random.sample(ways, self.random.randint(2, 4))}

    def tagged(self, depth):
        """Objects told apart by a constant, as clients make them of unions."""
        ways = []
        for tag in self.random.sample(["cat", "dog", "owl"], self.random.randint(2, 3)):
            way = self.object(0)
            way["properties"] = {"kind": {"const": tag, "type": "string"}, **{
                k: v for k, v in way["properties"].items() if k != "kind"}}
            way["required"] = sorted({*way["required"], "kind"})
            self.definitions[tag] = way
            ways.append({"$ref": f"#/$defs/{tag}"})
        return {"oneOf": ways}

    def all_of(self, depth):
        if self.random.random() < 0.5:
            return {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 40}]}
        a, b = self.object(0), self.object(0)
        for part in (a, b):
            del part["additionalProperties"]
        shared = {"type": "object", "properties": {
            name: True for part in (a, b) for name in part["properties"]},
            "additionalProperties": False}
        b["properties"] = {k: v for k, v in b["properties"].items() if k not in a["properties"]}
        return {"allOf": [a, b, shared]}

    def reference(self, depth):
        name = f"part{len(self.definitions)}"
        self.definitions[name] = True  # its place, while what it holds is made
        self.definitions[name] = self.schema(depth)
        return {"$ref": f"#/$defs/{name}"}


# ---- what an answer must be -----------------------------------------------------

FORMATS = jsonschema.FormatChecker(["ipv4", "uuid"])


@FORMATS.checks("time")
def is_time(text):
    found = re.fullmatch(
        r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([zZ]|[+-]([01]\d|2[0-3]):[0-5]\d)", text,
        re.ASCII)
    return found is not None


@FORMATS.checks("date", raises=ValueError)
def is_date(text):
    # The grammar's February has 29 days in every year.
    datetime.date.fromisoformat("2024" + text[4:])
    return re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) is not None


@FORMATS.checks("date-time", raises=ValueError)
def is_date_time(text):
    return is_date(text[:10]) and text[10] in "tT" and is_time(text[11:])


def read(text):
    """JSON text as RFC 8259 has it."""
    def constant(name):
        raise AssertionError(f"no JSON: {name}")
    return json.loads(text, parse_constant=constant)


def check(schema, text):
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(read(text))
