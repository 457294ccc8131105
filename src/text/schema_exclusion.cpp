#include "text/schema_exclusion.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/strings.h"
#include "text/schema_walk.h"

namespace mlxlm {

namespace {

using schemas::has;

enum Type : unsigned {
  null = 1,
  boolean = 2,
  number = 4,
  string = 8,
  array = 16,
  object = 32,
  any_type = 63,
};

unsigned type_named(const Json& name) {
  static constexpr std::pair<const char*, unsigned> names[] = {
      {"null", null},
      {"boolean", boolean},
      {"number", number},
      {"integer", number},
      {"string", string},
      {"array", array},
      {"object", object}};
  for (const auto& [text, bit] : names)
    if (name == text) return bit;
  return any_type;
}

unsigned type_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return null;
    case Json::value_t::boolean:
      return boolean;
    case Json::value_t::string:
      return string;
    case Json::value_t::array:
      return array;
    case Json::value_t::object:
      return object;
    default:
      return number;
  }
}

// Certainly not equal. Lists and objects may be: their order is not looked at.
bool differ(const Json& a, const Json& b) {
  return type_of(a) != type_of(b) || (!a.is_structured() && a != b);
}

struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false, high_open = false;

  void from(double x, bool open) {
    if (x < low || (x == low && !open)) return;
    low = x;
    low_open = open;
  }
  void to(double x, bool open) {
    if (x > high || (x == high && !open)) return;
    high = x;
    high_open = open;
  }
  bool below(const Range& other) const {
    return high < other.low ||
        (high == other.low && (high_open || other.low_open));
  }
  bool apart(const Range& other) const {
    return below(other) || other.below(*this);
  }
};

} // namespace

class SchemaExclusion::Search {
 public:
  explicit Search(const Json& root) : root_(root) {
    schemas::each_schema<const Json>(root, "#", [&](const Json& schema, auto&) {
      bool moved =
          &schema != &root && (has(schema, "$id") || has(schema, "id"));
      follows_ = follows_ && !moved; // "#" would be another place there
      return follows_;
    });
  }

  bool proven(const Json& a, const Json& b) {
    return disjoint(parts_of(a), parts_of(b), 0);
  }

 private:
  // Schemas that all hold. What is left out only makes it wider.
  using Parts = std::vector<const Json*>;

  Parts parts_of(const Json& schema) const {
    Parts out;
    gather(schema, out, 0);
    return out;
  }

  void gather(const Json& schema, Parts& out, int depth) const {
    if (depth > most_depth || out.size() > 64) return;
    out.push_back(&schema);
    if (has(schema, "allOf") && schema["allOf"].is_array())
      for (const auto& part : schema["allOf"])
        gather(part, out, depth + 1);
    if (!follows_ || !has(schema, "$ref") || !schema["$ref"].is_string())
      return;
    const auto& reference = schema["$ref"].get_ref<const std::string&>();
    if (!starts_with(reference, "#") ||
        reference.find('%') != std::string::npos)
      return;
    try {
      gather(root_.at(Json::json_pointer(reference.substr(1))), out, depth + 1);
    } catch (const Json::exception&) { // the compiler will say it
    }
  }

  static const Json* alternatives(const Json& part) {
    for (const char* name : {"anyOf", "oneOf"})
      if (has(part, name) && part[name].is_array()) return &part[name];
    return nullptr;
  }

  unsigned types_of(const Parts& parts, int depth) const {
    unsigned out = any_type;
    for (const auto* part : parts)
      out &= types_of(*part, depth);
    return out;
  }

  unsigned types_of(const Json& part, int depth) const {
    if (part.is_boolean()) return part.get<bool>() ? any_type : 0u;
    if (!part.is_object()) return any_type;
    unsigned out = any_type;
    auto one_of = [](const Json& list, auto bits) {
      unsigned sum = 0;
      for (const auto& item : list)
        sum |= bits(item);
      return sum;
    };
    if (has(part, "type"))
      out &= part["type"].is_array() ? one_of(part["type"], type_named)
                                     : type_named(part["type"]);
    if (has(part, "const")) out &= type_of(part["const"]);
    if (has(part, "enum")) out &= one_of(part["enum"], type_of);
    if (const auto* list = alternatives(part); list && depth < most_depth)
      out &= one_of(*list, [&](const Json& item) {
        return types_of(parts_of(item), depth + 1);
      });
    return out;
  }

  bool disjoint(const Parts& a, const Parts& b, int depth) {
    if (depth > most_depth || ++steps_ > most_steps) return false;
    unsigned common = types_of(a, 0) & types_of(b, 0);
    if (common == 0 || listed_apart(a, b) || listed_apart(b, a) ||
        split_apart(a, b, depth) || split_apart(b, a, depth))
      return true;
    for (unsigned type : {null, boolean, number, string, array, object})
      if ((common & type) && !apart(type, a, b, depth)) return false;
    return true;
  }

  // All values of `a` are written down and none is one of `b`.
  bool listed_apart(const Parts& a, const Parts& b) {
    for (const auto* part : a) {
      if (has(*part, "const") && refuses(b, (*part)["const"], 0)) return true;
      if (has(*part, "enum") && (*part)["enum"].is_array() &&
          std::all_of(
              (*part)["enum"].begin(),
              (*part)["enum"].end(),
              [&](const Json& value) { return refuses(b, value, 0); }))
        return true;
    }
    return false;
  }

  // Each alternative of `a` excludes `b`.
  bool split_apart(const Parts& a, const Parts& b, int depth) {
    for (const auto* part : a) {
      const auto* list = alternatives(*part);
      if (list &&
          std::all_of(list->begin(), list->end(), [&](const Json& item) {
            return disjoint(parts_of(item), b, depth + 1);
          }))
        return true;
    }
    return false;
  }

  bool refuses(const Parts& parts, const Json& value, int depth) {
    if (depth > most_depth || ++steps_ > most_steps) return false;
    return std::any_of(parts.begin(), parts.end(), [&](const Json* part) {
      return refuses(*part, value, depth);
    });
  }

  bool refuses(const Json& part, const Json& value, int depth) {
    if (!(types_of(part, 0) & type_of(value))) return true;
    if (!part.is_object()) return false;
    if (has(part, "const") && differ(part["const"], value)) return true;
    if (has(part, "enum") &&
        std::all_of(
            part["enum"].begin(), part["enum"].end(), [&](const Json& item) {
              return differ(item, value);
            }))
      return true;
    if (value.is_number()) {
      Range point;
      point.from(value.get<double>(), false);
      point.to(value.get<double>(), false);
      bool whole = value.get<double>() == std::floor(value.get<double>());
      return point.apart(range({&part}, number)) ||
          (has(part, "type") && part["type"] == "integer" && !whole);
    }
    if (!value.is_object()) return false;
    for (const auto& key : required({&part}))
      if (!value.contains(key)) return true;
    for (const auto& [key, inner] : value.items())
      if (refuses(property({&part}, key), inner, depth + 1)) return true;
    return false;
  }

  // Of numbers, lengths of texts, numbers of items.
  static Range range(const Parts& parts, unsigned type) {
    const char* low = type == number ? "minimum"
        : type == string             ? "minLength"
                                     : "minItems";
    const char* high = type == number ? "maximum"
        : type == string              ? "maxLength"
                                      : "maxItems";
    Range out;
    auto value = [](const Json& part, const char* name) -> const Json* {
      return has(part, name) && part[name].is_number() ? &part[name] : nullptr;
    };
    for (const auto* part : parts) {
      if (const auto* x = value(*part, low)) out.from(x->get<double>(), false);
      if (const auto* x = value(*part, high)) out.to(x->get<double>(), false);
      if (type != number) continue;
      if (const auto* x = value(*part, "exclusiveMinimum"))
        out.from(x->get<double>(), true);
      if (const auto* x = value(*part, "exclusiveMaximum"))
        out.to(x->get<double>(), true);
    }
    return out;
  }

  static std::vector<std::string> required(const Parts& parts) {
    std::vector<std::string> out;
    for (const auto* part : parts)
      if (has(*part, "required") && (*part)["required"].is_array())
        for (const auto& key : (*part)["required"])
          if (key.is_string()) out.push_back(key.get<std::string>());
    return out;
  }

  // What a property must be if it is there.
  Parts property(const Parts& parts, const std::string& key) const {
    Parts out;
    for (const auto* part : parts) {
      if (has(*part, "properties") && has((*part)["properties"], key.c_str()))
        gather((*part)["properties"][key], out, 0);
      else if (
          has(*part, "additionalProperties") &&
          !has(*part, "patternProperties"))
        gather((*part)["additionalProperties"], out, 0);
    }
    return out;
  }

  bool apart(unsigned type, const Parts& a, const Parts& b, int depth) {
    if (type == number || type == string || type == array)
      return range(a, type).apart(range(b, type));
    if (type != object) return false;
    auto keys = required(a);
    for (auto& key : required(b))
      keys.push_back(std::move(key));
    return std::any_of(keys.begin(), keys.end(), [&](const auto& key) {
      return disjoint(property(a, key), property(b, key), depth + 1);
    });
  }

  static constexpr int most_depth = 12, most_steps = 20'000;
  const Json& root_;
  bool follows_ = true; // references
  int steps_ = 0;
};

SchemaExclusion::SchemaExclusion(const Json& root)
    : search_(std::make_unique<Search>(root)) {}
SchemaExclusion::~SchemaExclusion() = default;

bool SchemaExclusion::proven(const Json& a, const Json& b) {
  return search_->proven(a, b);
}

} // namespace mlxlm
