#include "text/json_schema.h"

#include <gtest/gtest.h>

#include "text/schema_exclusion.h"

namespace mlxlm {
namespace {

Json schema(const char* text) {
  return parse_json(text, "schema");
}

bool apart(const char* a, const char* b, const char* root = "{}") {
  auto whole = schema(root);
  return SchemaExclusion(whole).proven(schema(a), schema(b));
}

TEST(JsonSchemaTest, TypesAndValuesExcludeOneAnother) {
  EXPECT_TRUE(apart(R"({"type": "string"})", R"({"type": "null"})"));
  EXPECT_TRUE(apart(
      R"({"type": ["string", "null"]})", R"({"type": ["array", "object"]})"));
  EXPECT_FALSE(apart(R"({"type": "integer"})", R"({"type": "number"})"));
  EXPECT_FALSE(apart("true", R"({"type": "null"})"));
  EXPECT_TRUE(apart("false", "true"));
  EXPECT_TRUE(apart(R"({"const": 1})", R"({"enum": [2, "1", [1]]})"));
  EXPECT_FALSE(apart(R"({"const": 1})", R"({"enum": [2, 1.0]})"));
  EXPECT_TRUE(apart(R"({"const": 1.5})", R"({"type": "integer"})"));
  // Objects are alike in any order.
  EXPECT_FALSE(apart(
      R"({"const": {"a": 1, "b": 2}})", R"({"const": {"b": 2, "a": 1}})"));
}

TEST(JsonSchemaTest, RangesExcludeOneAnother) {
  EXPECT_TRUE(apart(
      R"({"type": "number", "maximum": 3})",
      R"({"type": "number", "exclusiveMinimum": 3})"));
  EXPECT_FALSE(apart(
      R"({"type": "number", "maximum": 3})",
      R"({"type": "number", "minimum": 3})"));
  // Without a type a text would be of both.
  EXPECT_FALSE(apart(R"({"maximum": 3})", R"({"minimum": 4})"));
  EXPECT_TRUE(apart(
      R"({"type": "string", "maxLength": 3})",
      R"({"type": "string", "minLength": 4})"));
  EXPECT_TRUE(apart(
      R"({"type": "array", "maxItems": 3})",
      R"({"type": "array", "minItems": 4})"));
}

TEST(JsonSchemaTest, ObjectsByWhatTheyNeed) {
  const char* cat = R"({"type": "object", "required": ["kind"],
    "properties": {"kind": {"const": "cat"}}})";
  EXPECT_TRUE(apart(cat, R"({"type": "object",
    "properties": {"kind": {"const": "dog"}}})"));
  EXPECT_FALSE(apart(cat, R"({"type": "object"})"));
  EXPECT_TRUE(apart(cat, R"({"type": "object", "additionalProperties": false,
    "properties": {"name": true}})"));
  EXPECT_FALSE(apart(cat, R"({"type": "object", "additionalProperties": false,
    "patternProperties": {"^k": true}})"));
  // Nobody needs it: an empty object is of both.
  EXPECT_FALSE(apart(
      R"({"type": "object", "properties": {"kind": {"const": "cat"}}})",
      R"({"type": "object", "properties": {"kind": {"const": "dog"}}})"));
}

TEST(JsonSchemaTest, ReferencesAndCombinations) {
  const char* root = R"({"$defs": {
    "cat": {"type": "object", "required": ["kind"],
            "properties": {"kind": {"enum": ["cat", "kitten"]}}},
    "dog": {"type": "object", "required": ["kind"],
            "properties": {"kind": {"$ref": "#/$defs/word"}}},
    "word": {"const": "dog"}, "loop": {"$ref": "#/$defs/loop"}}})";
  EXPECT_TRUE(
      apart(R"({"$ref": "#/$defs/cat"})", R"({"$ref": "#/$defs/dog"})", root));
  EXPECT_FALSE(
      apart(R"({"$ref": "#/$defs/cat"})", R"({"$ref": "#/$defs/cat"})", root));
  EXPECT_FALSE(
      apart(R"({"$ref": "#/$defs/loop"})", R"({"$ref": "#/$defs/dog"})", root));
  EXPECT_FALSE(
      apart(R"({"$ref": "#/$defs/none"})", R"({"$ref": "#/$defs/dog"})", root));
  EXPECT_TRUE(apart(
      R"({"anyOf": [{"const": 1}, {"type": "string", "maxLength": 2}]})",
      R"({"oneOf": [{"const": 2}, {"type": "string", "minLength": 3}]})"));
  EXPECT_TRUE(apart(
      R"({"allOf": [{"type": "number"}, {"maximum": 1}]})",
      R"({"allOf": [{"type": "number"}, {"minimum": 2}]})"));
  // A schema of another base means something else by "#".
  EXPECT_FALSE(apart(
      R"({"$ref": "#/$defs/a"})",
      R"({"type": "null"})",
      R"({"$defs": {"a": {"$id": "x", "type": "string"}}})"));
}

TEST(JsonSchemaTest, OneOfBecomesAnyOfWhereItSaysTheSame) {
  auto changed = without_one_of(schema(R"({"properties": {
    "a": {"oneOf": [{"type": "string"}, {"type": "null"}]},
    "b": {"oneOf": [{"type": "string"}, {"maxLength": 3}]},
    "c": {"anyOf": [true], "oneOf": [{"const": 1}, {"const": 2}]},
    "d": {"const": {"oneOf": [{"type": "string"}, {"type": "null"}]}}}})"));
  EXPECT_EQ(changed, schema(R"({"properties": {
    "a": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    "b": {"oneOf": [{"type": "string"}, {"maxLength": 3}]},
    "c": {"anyOf": [true], "allOf": [{"anyOf": [{"const": 1}, {"const": 2}]}]},
    "d": {"const": {"oneOf": [{"type": "string"}, {"type": "null"}]}}}})"));
  EXPECT_EQ(place_of_keyword(changed, "oneOf"), "#/properties/b");
  EXPECT_EQ(place_of_keyword(changed, "not"), "");
}

TEST(JsonSchemaTest, WhatIsNoSchemaIsLeftAlone) {
  for (const char* text :
       {"5",
        "[]",
        R"({"oneOf": 5})",
        R"({"properties": 5, "allOf": 5, "items": "x", "oneOf": [5, "x"]})",
        R"({"oneOf": [{"enum": 5}, {"required": 5, "type": 5}]})"})
    EXPECT_EQ(without_one_of(schema(text)), schema(text));
}

// Work is bounded: what takes too long is not proven.
TEST(JsonSchemaTest, ManyAlternativesEnd) {
  auto list = Json::array();
  for (int i = 0; i < 3000; ++i)
    list.push_back({{"properties", {{"a", {{"anyOf", Json::array()}}}}}});
  auto changed = without_one_of({{"oneOf", list}});
  EXPECT_TRUE(changed.contains("oneOf"));
}

} // namespace
} // namespace mlxlm
