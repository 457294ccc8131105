#include "checkpoint/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "checkpoint/checked.h"
#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

// Numbers of ggml's types; those left out are not read.
std::optional<Storage> storage_of(std::uint32_t type) {
  static const std::map<std::uint32_t, Storage> table = {
      {0, Storage::f32},     {1, Storage::f16},     {2, Storage::q4_0},
      {3, Storage::q4_1},    {6, Storage::q5_0},    {7, Storage::q5_1},
      {8, Storage::q8_0},    {10, Storage::q2_k},   {11, Storage::q3_k},
      {12, Storage::q4_k},   {13, Storage::q5_k},   {14, Storage::q6_k},
      {20, Storage::iq4_nl}, {23, Storage::iq4_xs}, {24, Storage::i8},
      {25, Storage::i16},    {26, Storage::i32},    {27, Storage::i64},
      {28, Storage::f64},    {30, Storage::bf16},   {34, Storage::tq1_0},
      {35, Storage::tq2_0},  {39, Storage::mxfp4},
  };
  auto it = table.find(type);
  if (it == table.end()) return std::nullopt;
  return it->second;
}

std::string_view ggml_name(std::uint32_t type) {
  static constexpr std::array<std::string_view, 43> names = {
      "F32",        "F16",        "Q4_0",       "Q4_1",     "Q4_2",    "Q4_3",
      "Q5_0",       "Q5_1",       "Q8_0",       "Q8_1",     "Q2_K",    "Q3_K",
      "Q4_K",       "Q5_K",       "Q6_K",       "Q8_K",     "IQ2_XXS", "IQ2_XS",
      "IQ3_XXS",    "IQ1_S",      "IQ4_NL",     "IQ3_S",    "IQ2_S",   "IQ4_XS",
      "I8",         "I16",        "I32",        "I64",      "F64",     "IQ1_M",
      "BF16",       "Q4_0_4_4",   "Q4_0_4_8",   "Q4_0_8_8", "TQ1_0",   "TQ2_0",
      "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",    "NVFP4",   "Q1_0",
      "Q2_0"};
  return type < names.size() ? names[type] : "unknown";
}

// Bytes an item of a list takes at least.
std::uint64_t minimum_bytes(GgufType type) {
  static constexpr std::array<std::uint64_t, 13> sizes = {
      1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
  return sizes[static_cast<std::size_t>(type)];
}

// Reads forward; every read is checked against the bytes that are left.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, std::string_view where)
      : bytes_(bytes), where_(where) {}

  std::size_t position() const {
    return at_;
  }
  std::uint64_t left() const {
    return bytes_.size() - at_;
  }
  std::span<const std::byte> take(std::uint64_t n, std::string_view what) {
    if (n > left())
      fail(
          ErrorKind::weights,
          where_,
          "expected {} bytes of {} at byte {}, found {}; incomplete download?",
          n,
          what,
          at_,
          left());
    auto out = bytes_.subspan(at_, n);
    at_ += n;
    return out;
  }
  template <typename T>
  T number(std::string_view what) {
    auto raw = take(sizeof(T), what);
    T out;
    std::memcpy(&out, raw.data(), sizeof(T));
    return out;
  }
  std::string_view string(std::uint64_t most, std::string_view what) {
    auto length = number<std::uint64_t>(what);
    if (length > most)
      fail(
          ErrorKind::weights,
          where_,
          "expected at most {} bytes of {}, found {}",
          most,
          what,
          length);
    auto raw = take(length, what);
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view where_;
  std::size_t at_ = 0;
};
static_assert(std::endian::native == std::endian::little);

class Parser {
 public:
  Parser(
      std::span<const std::byte> bytes,
      std::string_view where,
      const GgufLimits& limits)
      : bytes_(bytes), where_(where), limits_(limits), in_(bytes, where_) {
    out_.metadata = GgufMetadata(where_);
  }

  GgufContent parse() {
    read_header();
    for (std::uint64_t i = 0; i < keys_; ++i)
      read_key();
    read_alignment();
    out_.tensors.reserve(tensors_);
    for (std::uint64_t i = 0; i < tensors_; ++i)
      read_tensor();
    place_tensors();
    return std::move(out_);
  }

 private:
  template <typename... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> text, Args&&... args)
      const {
    fail(ErrorKind::weights, where_, text, std::forward<Args>(args)...);
  }
  template <typename... Args>
  [[noreturn]] void bad_tensor(
      std::string_view name,
      fmt::format_string<Args...> text,
      Args&&... args) const {
    fail(
        ErrorKind::weights,
        fmt::format("{}: {}", where_, printable(name)),
        text,
        std::forward<Args>(args)...);
  }

  void read_header() {
    auto magic = in_.take(4, "a header");
    if (std::memcmp(magic.data(), "GGUF", 4) != 0)
      bad("expected a GGUF file, found \"{}\" at its start",
          printable({reinterpret_cast<const char*>(magic.data()), 4}));
    out_.version = in_.number<std::uint32_t>("a header");
    if (out_.version != 2 && out_.version != 3) {
      bool swapped = out_.version == 0x02000000u || out_.version == 0x03000000u;
      bad("expected GGUF version 2 or 3, found {}",
          swapped ? std::string("a big-endian file")
                  : std::to_string(out_.version));
    }
    tensors_ = in_.number<std::uint64_t>("a header");
    keys_ = in_.number<std::uint64_t>("a header");
    // A key takes at least 8 + 1 + 4 + 1 bytes, a tensor 8 + 1 + 4 + 8 + 4 + 8.
    check_count(keys_, 14, limits_.keys, "metadata keys");
    check_count(tensors_, 33, limits_.tensors, "tensors");
  }
  void check_count(
      std::uint64_t count,
      std::uint64_t size,
      std::uint64_t most,
      std::string_view what) const {
    if (count > in_.left() / size || count > most)
      bad("expected at most {} {} in a file of {} bytes, found {}",
          std::min(most, in_.left() / size),
          what,
          bytes_.size(),
          count);
  }

  void read_key() {
    auto key = in_.string(limits_.key_bytes, "a metadata key");
    if (key.empty()) bad("expected metadata keys, found an empty one");
    if (!valid_utf8(key) || key.find('\0') != std::string_view::npos)
      bad("expected metadata keys in UTF-8, found \"{}\"", printable(key));
    out_.metadata.add(key, read_value(read_type(key), key));
  }
  GgufType read_type(std::string_view key) {
    auto type = in_.number<std::uint32_t>("a value type");
    if (type > static_cast<std::uint32_t>(GgufType::f64))
      fail(
          ErrorKind::weights,
          out_.metadata.where(key),
          "expected a value type from 0 to 12, found {}",
          type);
    return static_cast<GgufType>(type);
  }
  GgufValue read_value(GgufType type, std::string_view key) {
    switch (type) {
      case GgufType::u8:
        return std::uint64_t{in_.number<std::uint8_t>(key)};
      case GgufType::i8:
        return std::int64_t{in_.number<std::int8_t>(key)};
      case GgufType::u16:
        return std::uint64_t{in_.number<std::uint16_t>(key)};
      case GgufType::i16:
        return std::int64_t{in_.number<std::int16_t>(key)};
      case GgufType::u32:
        return std::uint64_t{in_.number<std::uint32_t>(key)};
      case GgufType::i32:
        return std::int64_t{in_.number<std::int32_t>(key)};
      case GgufType::u64:
        return in_.number<std::uint64_t>(key);
      case GgufType::i64:
        return in_.number<std::int64_t>(key);
      case GgufType::f32:
        return double{in_.number<float>(key)};
      case GgufType::f64:
        return in_.number<double>(key);
      case GgufType::boolean:
        return read_bool(key);
      case GgufType::string:
        return in_.string(limits_.string_bytes, key);
      case GgufType::array:
        return read_array(key, 1);
    }
    bad("unreachable value type");
  }
  bool read_bool(std::string_view key) {
    auto value = in_.number<std::uint8_t>(key);
    if (value > 1)
      fail(
          ErrorKind::weights,
          out_.metadata.where(key),
          "expected a boolean of 0 or 1, found {}",
          value);
    return value == 1;
  }
  GgufArray read_array(std::string_view key, int depth) {
    if (depth > limits_.array_depth)
      fail(
          ErrorKind::weights,
          out_.metadata.where(key),
          "expected lists nested at most {} deep, found more",
          limits_.array_depth);
    GgufArray out;
    out.type = read_type(key);
    out.count = in_.number<std::uint64_t>(key);
    if (out.count > in_.left() / minimum_bytes(out.type))
      fail(
          ErrorKind::weights,
          out_.metadata.where(key),
          "expected a list that fits the {} bytes left, found {} items",
          in_.left(),
          out.count);
    auto begin = in_.position();
    if (out.type == GgufType::array) {
      for (std::uint64_t i = 0; i < out.count; ++i)
        read_array(key, depth + 1);
    } else if (out.type == GgufType::string) {
      for (std::uint64_t i = 0; i < out.count; ++i)
        in_.string(limits_.string_bytes, key);
    } else if (out.type == GgufType::boolean) {
      for (std::uint64_t i = 0; i < out.count; ++i)
        read_bool(key);
    } else {
      in_.take(out.count * minimum_bytes(out.type), key);
    }
    out.bytes = bytes_.subspan(begin, in_.position() - begin);
    return out;
  }
  void read_alignment() {
    const auto* value = out_.metadata.find("general.alignment");
    if (value == nullptr) return;
    const auto* alignment = std::get_if<std::uint64_t>(value);
    if (alignment == nullptr || *alignment < 8 || *alignment > (1u << 20) ||
        !std::has_single_bit(*alignment))
      fail(
          ErrorKind::weights,
          out_.metadata.where("general.alignment"),
          "expected a power of two from 8 to 1048576, found {}",
          describe(*value));
    out_.alignment = *alignment;
  }

  void read_tensor() {
    TensorView t;
    t.name = in_.string(limits_.name_bytes, "a tensor name");
    if (t.name.empty()) bad("expected tensor names, found an empty one");
    if (!valid_utf8(t.name) || t.name.find('\0') != std::string::npos)
      bad("expected tensor names in UTF-8, found \"{}\"", printable(t.name));
    auto dimensions = in_.number<std::uint32_t>("tensor dimensions");
    if (dimensions < 1 || dimensions > 4)
      bad_tensor(t.name, "expected 1 to 4 dimensions, found {}", dimensions);
    for (std::uint32_t i = 0; i < dimensions; ++i) {
      auto dim = in_.number<std::uint64_t>("tensor dimensions");
      if (dim < 1 || dim > INT32_MAX)
        bad_tensor(
            t.name, "expected dimensions from 1 to 2^31 - 1, found {}", dim);
      t.shape.push_back(static_cast<std::int64_t>(dim));
    }
    std::reverse(t.shape.begin(), t.shape.end());
    auto type = in_.number<std::uint32_t>("a tensor type");
    auto storage = storage_of(type);
    if (!storage)
      bad_tensor(
          t.name,
          "expected a type such as F16, Q4_1, Q8_0 or Q4_K, found type {} ({}), which is not supported",
          type,
          ggml_name(type));
    t.storage = *storage;
    t.offset = in_.number<std::uint64_t>("a tensor offset");
    out_.tensors.push_back(std::move(t));
  }

  // From offsets in the data section to spans of the file.
  void place_tensors() {
    const std::uint64_t header = in_.position();
    const std::uint64_t start =
        (header + out_.alignment - 1) / out_.alignment * out_.alignment;
    const std::uint64_t data =
        start <= bytes_.size() ? bytes_.size() - start : 0;
    std::vector<std::pair<std::uint64_t, const TensorView*>> order;
    for (auto& t : out_.tensors) {
      const auto& type = info(t.storage);
      auto size = storage_bytes(t.shape, type.block, type.bytes);
      if (!size)
        bad_tensor(
            t.name,
            "expected rows of whole blocks of {} that can be held, found [{}] of {}",
            type.block,
            fmt::join(t.shape, ", "),
            type.name);
      if (t.offset % out_.alignment != 0)
        bad_tensor(
            t.name,
            "expected an offset that is a multiple of {}, found {}",
            out_.alignment,
            t.offset);
      auto end = checked_add(t.offset, *size);
      if (!end || *end > data)
        bad_tensor(
            t.name,
            "expected {} bytes at {} of the data, found a data section of {}; incomplete download?",
            *size,
            t.offset,
            data);
      t.bytes = bytes_.subspan(start + t.offset, *size);
      order.emplace_back(t.offset, &t);
      t.offset += start;
    }
    check_disjoint(order);
  }
  void check_disjoint(
      std::vector<std::pair<std::uint64_t, const TensorView*>>& order) const {
    std::sort(order.begin(), order.end());
    for (std::size_t i = 1; i < order.size(); ++i) {
      const auto& before = *order[i - 1].second;
      if (order[i - 1].first + before.bytes.size() > order[i].first)
        bad_tensor(
            order[i].second->name,
            "expected data of its own, found it overlapping {}",
            printable(before.name));
    }
    std::unordered_map<std::string_view, int> seen;
    for (const auto& t : out_.tensors)
      if (!seen.emplace(t.name, 0).second)
        bad_tensor(t.name, "expected each tensor once, found it twice");
  }

  std::span<const std::byte> bytes_;
  std::string where_;
  const GgufLimits& limits_;
  Cursor in_;
  GgufContent out_;
  std::uint64_t tensors_ = 0;
  std::uint64_t keys_ = 0;
};

} // namespace

GgufContent parse_gguf(
    std::span<const std::byte> bytes,
    std::string_view where,
    const GgufLimits& limits) {
  return Parser(bytes, where, limits).parse();
}

} // namespace mlxlm
