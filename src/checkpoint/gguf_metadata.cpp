// Typed access to GGUF metadata.

#include <cmath>
#include <cstring>

#include "checkpoint/gguf.h"
#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

template <typename T>
T load(const std::byte* at) {
  T out;
  std::memcpy(&out, at, sizeof(T));
  return out;
}

std::string_view type_name(GgufType type) {
  static constexpr std::string_view names[] = {
      "u8",
      "i8",
      "u16",
      "i16",
      "u32",
      "i32",
      "f32",
      "booleans",
      "strings",
      "lists",
      "u64",
      "i64",
      "f64"};
  return names[static_cast<std::size_t>(type)];
}

// Item `i` of a list of numbers or booleans.
GgufValue item(const GgufArray& list, std::size_t i) {
  const auto* p = list.bytes.data();
  switch (list.type) {
    case GgufType::u8:
      return std::uint64_t{load<std::uint8_t>(p + i)};
    case GgufType::i8:
      return std::int64_t{load<std::int8_t>(p + i)};
    case GgufType::u16:
      return std::uint64_t{load<std::uint16_t>(p + 2 * i)};
    case GgufType::i16:
      return std::int64_t{load<std::int16_t>(p + 2 * i)};
    case GgufType::u32:
      return std::uint64_t{load<std::uint32_t>(p + 4 * i)};
    case GgufType::i32:
      return std::int64_t{load<std::int32_t>(p + 4 * i)};
    case GgufType::u64:
      return load<std::uint64_t>(p + 8 * i);
    case GgufType::i64:
      return load<std::int64_t>(p + 8 * i);
    case GgufType::f32:
      return double{load<float>(p + 4 * i)};
    case GgufType::f64:
      return load<double>(p + 8 * i);
    case GgufType::boolean:
      return load<std::uint8_t>(p + i) != 0;
    default:
      return list; // strings and lists are no numbers
  }
}

// Exact conversions; nothing when the value is of another kind or out of range.
template <typename T>
struct As;

template <>
struct As<std::int64_t> {
  static constexpr std::string_view kind = "an integer";
  static std::optional<std::int64_t> from(const GgufValue& v) {
    if (const auto* i = std::get_if<std::int64_t>(&v)) return *i;
    if (const auto* u = std::get_if<std::uint64_t>(&v);
        u != nullptr && *u <= INT64_MAX)
      return static_cast<std::int64_t>(*u);
    return std::nullopt;
  }
};
template <>
struct As<double> {
  static constexpr std::string_view kind = "a finite number";
  static std::optional<double> from(const GgufValue& v) {
    if (const auto* d = std::get_if<double>(&v)) {
      if (!std::isfinite(*d)) return std::nullopt;
      return *d;
    }
    if (auto i = As<std::int64_t>::from(v)) return static_cast<double>(*i);
    return std::nullopt;
  }
};
template <>
struct As<bool> {
  static constexpr std::string_view kind = "true or false";
  static std::optional<bool> from(const GgufValue& v) {
    if (const auto* b = std::get_if<bool>(&v)) return *b;
    return std::nullopt;
  }
};
template <>
struct As<std::string_view> {
  static constexpr std::string_view kind = "a string";
  static std::optional<std::string_view> from(const GgufValue& v) {
    if (const auto* s = std::get_if<std::string_view>(&v)) return *s;
    return std::nullopt;
  }
};

const GgufArray* list_of(const GgufMetadata& metadata, std::string_view key) {
  const auto* value = metadata.find(key);
  if (value == nullptr) return nullptr;
  const auto* list = std::get_if<GgufArray>(value);
  if (list == nullptr)
    fail(
        ErrorKind::weights,
        metadata.where(key),
        "expected a list, found {}",
        describe(*value));
  return list;
}

template <typename T>
std::vector<T> numbers_of(const GgufMetadata& metadata, std::string_view key) {
  const auto* list = list_of(metadata, key);
  std::vector<T> out;
  if (list == nullptr) return out;
  out.reserve(list->count);
  for (std::size_t i = 0; i < list->count; ++i) {
    auto value = As<T>::from(item(*list, i));
    if (!value)
      fail(
          ErrorKind::weights,
          metadata.where(key),
          "expected {} at position {}, found {}",
          As<T>::kind,
          i,
          describe(item(*list, i)));
    out.push_back(*value);
  }
  return out;
}

} // namespace

std::string describe(const GgufValue& value) {
  struct Visitor {
    std::string operator()(std::uint64_t v) const {
      return std::to_string(v);
    }
    std::string operator()(std::int64_t v) const {
      return std::to_string(v);
    }
    std::string operator()(double v) const {
      return fmt::format("{}", v);
    }
    std::string operator()(bool v) const {
      return v ? "true" : "false";
    }
    std::string operator()(std::string_view v) const {
      return '"' + printable(v) + '"';
    }
    std::string operator()(const GgufArray& v) const {
      return fmt::format("a list of {} {}", v.count, type_name(v.type));
    }
  };
  return std::visit(Visitor{}, value);
}

bool GgufMetadata::has(std::string_view key) const {
  return index_.contains(key);
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  auto it = index_.find(key);
  return it == index_.end() ? nullptr : &entries_[it->second].second;
}

template <typename T>
std::optional<T> GgufMetadata::get(std::string_view key) const {
  const auto* value = find(key);
  if (value == nullptr) return std::nullopt;
  auto out = As<T>::from(*value);
  if (!out)
    fail(
        ErrorKind::weights,
        where(key),
        "expected {}, found {}",
        As<T>::kind,
        describe(*value));
  return out;
}

template <typename T>
T GgufMetadata::req(std::string_view key) const {
  auto out = get<T>(key);
  if (!out)
    fail(
        ErrorKind::weights,
        where(key),
        "expected {}, found nothing",
        As<T>::kind);
  return *out;
}

#define MLXLM_GGUF_TYPE(T)                                             \
  template std::optional<T> GgufMetadata::get(std::string_view) const; \
  template T GgufMetadata::req(std::string_view) const;
MLXLM_GGUF_TYPE(std::int64_t)
MLXLM_GGUF_TYPE(double)
MLXLM_GGUF_TYPE(bool)
MLXLM_GGUF_TYPE(std::string_view)
#undef MLXLM_GGUF_TYPE

std::vector<std::string_view> GgufMetadata::strings(
    std::string_view key) const {
  const auto* list = list_of(*this, key);
  std::vector<std::string_view> out;
  if (list == nullptr) return out;
  if (list->type != GgufType::string)
    fail(
        ErrorKind::weights,
        where(key),
        "expected a list of strings, found {}",
        describe(GgufValue(*list)));
  out.reserve(list->count);
  const auto* p = list->bytes.data(); // proved to hold `count` strings
  for (std::uint64_t i = 0; i < list->count; ++i) {
    auto length = load<std::uint64_t>(p);
    out.emplace_back(reinterpret_cast<const char*>(p) + 8, length);
    p += 8 + length;
  }
  return out;
}

std::vector<bool> GgufMetadata::flags(std::string_view key) const {
  const auto* list = list_of(*this, key);
  std::vector<bool> out;
  if (list == nullptr) return out;
  if (list->type != GgufType::boolean) {
    for (auto value : integers(key))
      out.push_back(value != 0);
    return out;
  }
  for (auto byte : list->bytes.first(list->count))
    out.push_back(byte != std::byte{0});
  return out;
}

std::vector<std::int64_t> GgufMetadata::integers(std::string_view key) const {
  return numbers_of<std::int64_t>(*this, key);
}

std::vector<double> GgufMetadata::numbers(std::string_view key) const {
  return numbers_of<double>(*this, key);
}

bool GgufMetadata::is_list(std::string_view key) const {
  const auto* value = find(key);
  return value != nullptr && std::holds_alternative<GgufArray>(*value);
}

void GgufMetadata::add(std::string_view key, GgufValue value) {
  if (!index_.emplace(key, entries_.size()).second)
    fail(
        ErrorKind::weights,
        where(key),
        "expected each key once, found it twice");
  entries_.emplace_back(key, value);
}

std::string GgufMetadata::where(std::string_view key) const {
  return fmt::format("{}: {}", where_, printable(key));
}

} // namespace mlxlm
