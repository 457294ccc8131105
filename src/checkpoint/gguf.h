// GGUF files, versions 2 and 3, little-endian: metadata, tensor table, data.
// Every count is bounded by the bytes that are left before anything is
// reserved.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "checkpoint/tensor.h"

namespace mlxlm {

enum class GgufType : std::uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64,
};

// A list in the metadata; its items stay in the file until asked for. Lists of
// lists are checked and skipped: nothing reads them.
struct GgufArray {
  GgufType type = GgufType::u8;
  std::uint64_t count = 0;
  std::span<const std::byte> bytes;
};

using GgufValue = std::variant<
    std::uint64_t,
    std::int64_t,
    double,
    bool,
    std::string_view,
    GgufArray>;

// "17", "true", "\"llama\"", "a list of 49152 strings", for errors and
// listings.
std::string describe(const GgufValue& value);

// Typed access to the metadata; errors name file and key. Views point into the
// file.
class GgufMetadata {
 public:
  explicit GgufMetadata(std::string where = {}) : where_(std::move(where)) {}

  bool has(std::string_view key) const;
  const GgufValue* find(std::string_view key) const;
  // The value converted exactly, or nothing when the key is absent; a value of
  // the wrong kind or out of range throws Error(weights).
  template <typename T> // std::int64_t, double, bool, std::string_view
  std::optional<T> get(std::string_view key) const;
  template <typename T>
  T req(std::string_view key) const;
  // Lists; empty when absent.
  std::vector<std::string_view> strings(std::string_view key) const;
  std::vector<std::int64_t> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const; // of any number type
  std::vector<bool> flags(std::string_view key) const; // or of integers
  bool is_list(std::string_view key) const;

  const std::vector<std::pair<std::string_view, GgufValue>>& entries() const {
    return entries_;
  }
  void add(
      std::string_view key,
      GgufValue value); // throws when the key is there
  std::string where(std::string_view key) const;

 private:
  std::string where_;
  std::vector<std::pair<std::string_view, GgufValue>> entries_;
  std::unordered_map<std::string_view, std::size_t> index_;
};

struct GgufLimits {
  std::uint64_t keys = 65'536;
  std::uint64_t tensors = 1'000'000;
  std::uint64_t key_bytes = 65'535; // the format's own cap
  std::uint64_t name_bytes = 4096; // of a tensor
  std::uint64_t string_bytes = std::uint64_t{64} << 20;
  int array_depth = 4;
};

struct GgufContent {
  std::uint32_t version = 0;
  std::uint64_t alignment = 32;
  GgufMetadata metadata;
  std::vector<TensorView> tensors; // shapes row-major; `file` is not set
};

// Parses a whole file in memory. Throws Error(weights); `where` names the file.
GgufContent parse_gguf(
    std::span<const std::byte> bytes,
    std::string_view where,
    const GgufLimits& limits = {});

// A GGUF file, or all parts of a split one (NAME-00001-of-00003.gguf) given any
// part.
class GgufFile : public TensorSource {
 public:
  explicit GgufFile(const std::string& path);
  const TensorView* find(std::string_view name) const override;
  std::vector<std::string> names() const override;
  // Of the first part.
  const GgufMetadata& metadata() const {
    return parts_.front().metadata;
  }
  const std::string& path() const {
    return path_;
  }

 private:
  void add_part(const std::string& path);
  void open_parts(std::int64_t count);
  std::string path_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::vector<GgufContent> parts_;
  std::unordered_map<std::string_view, const TensorView*> index_;
};

} // namespace mlxlm
