#include "core/fields.h"

#include <cmath>
#include <limits>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {

struct Fields::Document {
  Json root;
  std::string file;
};

namespace {

const Json empty_object = Json::object();

// What T is called in errors, and the conversion (nullopt: the wrong kind).
template <typename T>
struct Reader;

template <>
struct Reader<bool> {
  static constexpr std::string_view kind = "true or false";
  static std::optional<bool> read(const Json& v) {
    if (!v.is_boolean()) return std::nullopt;
    return v.get<bool>();
  }
};

template <typename Int>
std::optional<Int> read_integer(const Json& v) {
  using Limits = std::numeric_limits<Int>;
  if (v.is_number_unsigned()) {
    auto n = v.get<std::uint64_t>();
    if (n > static_cast<std::uint64_t>(Limits::max())) return std::nullopt;
    return static_cast<Int>(n);
  }
  if (v.is_number_integer()) {
    auto n = v.get<std::int64_t>();
    if (n < Limits::min() || n > Limits::max()) return std::nullopt;
    return static_cast<Int>(n);
  }
  // 4096.0 occurs in published configs.
  if (v.is_number_float()) {
    double d = v.get<double>();
    if (d != std::floor(d) || std::fabs(d) > 9e15) return std::nullopt;
    if (d < static_cast<double>(Limits::min()) ||
        d > static_cast<double>(Limits::max()))
      return std::nullopt;
    return static_cast<Int>(d);
  }
  return std::nullopt;
}

template <>
struct Reader<int> {
  static constexpr std::string_view kind = "an integer";
  static std::optional<int> read(const Json& v) {
    return read_integer<int>(v);
  }
};
template <>
struct Reader<std::int64_t> {
  static constexpr std::string_view kind = "an integer";
  static std::optional<std::int64_t> read(const Json& v) {
    return read_integer<std::int64_t>(v);
  }
};

template <>
struct Reader<double> {
  static constexpr std::string_view kind = "a number";
  static std::optional<double> read(const Json& v) {
    if (v.is_number()) return v.get<double>();
    // transformers 5 writes {"__float__": "Infinity"}.
    if (v.is_object() && v.size() == 1 && v.contains("__float__")) {
      const auto& word = v["__float__"];
      if (word == "Infinity") return std::numeric_limits<double>::infinity();
      if (word == "-Infinity") return -std::numeric_limits<double>::infinity();
      if (word == "NaN") return std::numeric_limits<double>::quiet_NaN();
    }
    return std::nullopt;
  }
};
template <>
struct Reader<float> {
  static constexpr std::string_view kind = "a number";
  static std::optional<float> read(const Json& v) {
    auto d = Reader<double>::read(v);
    if (!d) return std::nullopt;
    return static_cast<float>(*d);
  }
};

template <>
struct Reader<std::string> {
  static constexpr std::string_view kind = "a string";
  static std::optional<std::string> read(const Json& v) {
    if (!v.is_string()) return std::nullopt;
    return v.get<std::string>();
  }
};

template <>
struct Reader<Json> {
  static constexpr std::string_view kind = "a value";
  static std::optional<Json> read(const Json& v) {
    return v;
  }
};

template <typename T>
struct ListReader {
  static std::optional<std::vector<T>> read(const Json& v) {
    if (!v.is_array()) return std::nullopt;
    std::vector<T> out;
    out.reserve(v.size());
    for (const auto& item : v) {
      auto value = Reader<T>::read(item);
      if (!value) return std::nullopt;
      out.push_back(std::move(*value));
    }
    return out;
  }
};
template <>
struct Reader<std::vector<int>> : ListReader<int> {
  static constexpr std::string_view kind = "a list of integers";
};
template <>
struct Reader<std::vector<float>> : ListReader<float> {
  static constexpr std::string_view kind = "a list of numbers";
};
template <>
struct Reader<std::vector<double>> : ListReader<double> {
  static constexpr std::string_view kind = "a list of numbers";
};
template <>
struct Reader<std::vector<bool>> : ListReader<bool> {
  static constexpr std::string_view kind = "a list of true or false";
};
template <>
struct Reader<std::vector<std::string>> : ListReader<std::string> {
  static constexpr std::string_view kind = "a list of strings";
};

} // namespace

Fields::Fields(Json object, std::string file)
    : document_(std::make_shared<Document>(
          Document{std::move(object), std::move(file)})),
      node_(&document_->root) {
  if (!node_->is_object())
    fail(
        ErrorKind::config,
        document_->file,
        "expected an object, found {}",
        describe(*node_));
}

Fields::Fields(
    std::shared_ptr<const Document> document,
    const Json* node,
    std::string path)
    : document_(std::move(document)), node_(node), path_(std::move(path)) {}

bool Fields::has(std::string_view key) const {
  auto it = node_->find(std::string(key));
  return it != node_->end() && !it->is_null();
}

bool Fields::is_object(std::string_view key) const {
  auto it = node_->find(std::string(key));
  return it != node_->end() && it->is_object();
}

template <typename T>
std::optional<T> Fields::find(std::string_view key) const {
  auto it = node_->find(std::string(key));
  if (it == node_->end() || it->is_null()) return std::nullopt;
  auto value = Reader<T>::read(*it);
  if (!value)
    fail(
        ErrorKind::config,
        where(key),
        "expected {}, found {}",
        Reader<T>::kind,
        describe(*it));
  return value;
}

template <typename T>
T Fields::req(std::string_view key) const {
  auto value = find<T>(key);
  if (!value)
    fail(
        ErrorKind::config,
        where(key),
        "expected {}, found nothing",
        Reader<T>::kind);
  return std::move(*value);
}

template <typename T>
T Fields::opt(std::string_view key, T fallback) const {
  auto value = find<T>(key);
  return value ? std::move(*value) : std::move(fallback);
}

int Fields::range(std::string_view key, int low, int high) const {
  int value = req<int>(key);
  if (value < low || value > high)
    fail(
        ErrorKind::config,
        where(key),
        "expected an integer from {} to {}, found {}",
        low,
        high,
        value);
  return value;
}

int Fields::range(std::string_view key, int fallback, int low, int high) const {
  return has(key) ? range(key, low, high) : fallback;
}

Fields Fields::sub(std::string_view key) const {
  std::string path =
      path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  auto it = node_->find(std::string(key));
  if (it == node_->end() || it->is_null())
    return Fields(document_, &empty_object, path);
  if (!it->is_object())
    fail(
        ErrorKind::config,
        where(key),
        "expected an object, found {}",
        describe(*it));
  return Fields(document_, &*it, path);
}

std::string Fields::where(std::string_view key) const {
  std::string out = document_->file;
  if (!path_.empty()) out += ": " + path_;
  if (!key.empty()) out += (path_.empty() ? ": " : ".") + std::string(key);
  return out;
}

const Json& Fields::json() const {
  return *node_;
}

Fields Fields::with(const Json& overrides) const {
  Json copy = *node_;
  for (auto& [key, value] : overrides.items())
    copy[key] = value;
  auto document =
      std::make_shared<Document>(Document{std::move(copy), document_->file});
  const Json* root = &document->root;
  return Fields(std::move(document), root, path_);
}

#define MLXLM_FIELD_TYPE(T)                                       \
  template std::optional<T> Fields::find(std::string_view) const; \
  template T Fields::req(std::string_view) const;                 \
  template T Fields::opt(std::string_view, T) const;
MLXLM_FIELD_TYPE(bool)
MLXLM_FIELD_TYPE(int)
MLXLM_FIELD_TYPE(std::int64_t)
MLXLM_FIELD_TYPE(float)
MLXLM_FIELD_TYPE(double)
MLXLM_FIELD_TYPE(std::string)
MLXLM_FIELD_TYPE(Json)
MLXLM_FIELD_TYPE(std::vector<int>)
MLXLM_FIELD_TYPE(std::vector<float>)
MLXLM_FIELD_TYPE(std::vector<double>)
MLXLM_FIELD_TYPE(std::vector<bool>)
MLXLM_FIELD_TYPE(std::vector<std::string>)
#undef MLXLM_FIELD_TYPE

} // namespace mlxlm
