// The pieces of which grammars of calls are made: marks, JSON, texts up to a
// mark, and values by what their schemas allow. A piece is a sequence of terms
// of llguidance's Lark, each with a blank before it.
#pragma once

#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/tokenizer.h"

namespace mlxlm::tools {

// What a schema allows, one way each; references are followed, and all that
// holds at once is in one schema.
struct Shapes {
  std::vector<Json> constants; // of enum and const, true and false, null
  // Schemas of one type each, without references or alternatives of their own.
  std::vector<Json> texts, numbers, lists, objects;
  bool any = false; // says nothing of the type

  bool allows(const Json& value) const;
};

// Thrown where a part of a tool's schema cannot be enforced.
struct CannotForce {
  std::string what;
  Json schema; // the part
};
[[noreturn]] void cannot_force(std::string what, Json schema);

// The members that an object of Shapes is made of: in the schema's order, then
// those that are needed and have no schema of their own. Where there are bounds
// of their number, fewer are left to choose.
struct Property {
  std::string key;
  Json schema;
  bool needed;
};
std::vector<Property> properties_of(const Json& schema);
// What a list of Shapes begins with, at most so many.
std::vector<const Json*> listed_items(
    const Json& list,
    std::size_t most = std::numeric_limits<std::size_t>::max());

// Texts that stand without quotes in a call.
struct TextRules {
  std::string end; // the mark behind it
  bool stripped = false; // white space around it does not count
  std::vector<std::string> refused = {}; // regular expressions of whole texts
};

class GrammarBuilder {
 public:
  explicit GrammarBuilder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // The schema of all arguments, in which references are looked up from here
  // on; and as their reader knows it.
  void begin(const Json& root, const Json& reader);
  // The schema by which the argument's text is read; CannotForce: none.
  const Json& reading(const std::string& key) const;
  const std::string& rules() const {
    return rules_;
  }

  // Special tokens by their ids, the rest as strings.
  std::string literal(std::string_view text) const;
  std::string rule(const std::string& body, std::string_view attribute = "");
  // JSON text of a schema.
  std::string json(Json schema);
  // A text that the schema (of a string) allows, and the mark behind it.
  std::string text(const Json& schema, const TextRules& rules);
  // The same between quotes or without, as one lexeme: what else begins with a
  // quote would come in its way otherwise. `refused`: an expression.
  std::string quoted(
      const Json& schema,
      std::string_view quote,
      std::string_view refused);
  std::string regex(std::string_view expression);
  std::string optional(const std::string& terms);
  // One of them.
  std::string either(const std::vector<std::string>& ways);
  // Members in turn with `between` them; those that are not needed may be left
  // out.
  struct Member {
    std::string terms;
    bool needed;
  };
  std::string members(const std::vector<Member>& all, std::string_view between);
  // As many items as a list of Shapes allows, each made of its schema.
  std::string items(
      const Json& list,
      std::string_view between,
      const std::function<std::string(const Json& schema)>& make);
  // `item` so many times.
  std::string repeated(
      const std::string& item,
      std::size_t least,
      std::optional<std::size_t> most,
      std::string_view between);

  Shapes shapes(const Json& schema) const;
  // The rule of a schema that is being made or was made: what refers to itself
  // is a rule that does so. Empty: `make` it.
  template <typename Make>
  std::string once(const Json& schema, const Make& make) {
    auto key = schema.dump();
    if (auto found = made_.find(key); found != made_.end())
      return found->second;
    auto name = " r" + std::to_string(count_++);
    made_.emplace(key, name);
    auto body = make();
    rules_ += name.substr(1) + ":" + body + "\n";
    return name;
  }

 private:
  // What a text (without marks) must be by its schema, as expressions of which
  // all hold; empty: any text will do.
  std::string wanted(const Json& schema) const;
  std::string terms_of(const Json& schema);

  const Tokenizer& tokenizer_;
  Json root_ = Json::object(), reader_ = Json::object();
  std::string rules_;
  int count_ = 0;
  std::map<std::string, std::string> made_;
};

// How a format writes arguments one after another, and reads a value: with
// the schema of the argument.
struct MarkedArguments {
  std::string_view key_begin, key_end, value_end;
  Json (*read)(std::string_view text, const Json* schema);
  bool stripped = false; // `read` takes no account of white space around
  bool one_newline = false; // nor of a line break at either end
};
std::string marked_arguments(
    GrammarBuilder& builder,
    const Json& schema,
    const MarkedArguments& marks);
// One value and the mark behind it.
std::string marked_value(
    GrammarBuilder& builder,
    const Json& schema,
    const Shapes& shapes, // of the schema, or some of them
    const MarkedArguments& marks);

// Marks that tell a value's type: `mark` is what stands between the key and a
// value of "string", "number", "boolean", "null", "array" or "object".
struct TypedArguments {
  std::string_view key_begin, value_end;
  std::string (*mark)(std::string_view type);
};
std::string typed_arguments(
    GrammarBuilder& builder,
    const Json& schema,
    const TypedArguments& marks);

// How a format writes values within values that are no JSON.
struct Spelling {
  std::string_view yes = "true", no = "false", none = "null";
  std::string_view quote; // around texts; empty: Python's strings
  std::string_view comma = ",", colon = ":";
  bool quoted_keys = false;
};
std::string spelled_value(
    GrammarBuilder& builder,
    const Json& schema,
    const Spelling& spelling);
// The members of an object without what stands around them.
std::string spelled_members(
    GrammarBuilder& builder,
    const Json& schema,
    const Spelling& spelling,
    std::string_view colon);

} // namespace mlxlm::tools
