#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "checkpoint/checked.h"
#include "core/check.h"
#include "core/json.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

std::optional<Storage> storage_named(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(Storage::boolean); ++i)
    if (info(static_cast<Storage>(i)).name == name)
      return static_cast<Storage>(i);
  return std::nullopt;
}

// Reads the header without building a document: exact integers, linear time,
// and no more memory than the tensors themselves.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  HeaderReader(std::string_view where, const SafetensorsLimits& limits)
      : where_(where), limits_(limits) {}

  SafetensorsContent content;
  std::vector<std::pair<std::uint64_t, std::uint64_t>>
      offsets; // of each tensor

  bool start_object(std::size_t) override {
    if (depth_ > 1) unexpected("an object");
    if (++depth_ == 1 || metadata_) return true;
    if (content.tensors.size() >= limits_.tensors)
      fail(where_, "expected at most {} tensors, found more", limits_.tensors);
    content.tensors.emplace_back();
    content.tensors.back().name = name_;
    offsets.emplace_back();
    seen_dtype_ = seen_shape_ = seen_offsets_ = false;
    bounds_.clear();
    return true;
  }
  bool key(string_t& key) override {
    if (depth_ == 1) {
      check_name(key);
      metadata_ = key == "__metadata__";
      if (metadata_ && std::exchange(seen_metadata_, true))
        fail(where_, "expected __metadata__ once, found it twice");
      name_ = key;
    } else {
      field_ = key;
      if (!metadata_) check_field();
    }
    return true;
  }
  bool end_object() override {
    --depth_;
    if (depth_ == 1 && !metadata_) finish_tensor();
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ != 2 || metadata_ || field_ == "dtype") unexpected("a list");
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (depth_ != 3) unexpected(std::to_string(value));
    if (field_ == "data_offsets") {
      if (bounds_.size() >= 2) unexpected("more than two numbers");
      bounds_.push_back(value);
      return true;
    }
    auto& shape = content.tensors.back().shape;
    if (shape.size() >= limits_.dimensions)
      fail(
          tensor(),
          "expected at most {} dimensions, found more",
          limits_.dimensions);
    if (value > INT32_MAX)
      fail(tensor(), "expected dimensions below 2^31, found {}", value);
    shape.push_back(static_cast<std::int64_t>(value));
    return true;
  }
  bool string(string_t& value) override {
    if (depth_ == 2 && metadata_) {
      metadata_bytes_ += field_.size() + value.size();
      if (metadata_bytes_ > limits_.metadata_bytes)
        fail(
            where_,
            "expected at most {} bytes of metadata, found more",
            limits_.metadata_bytes);
      if (!content.metadata.emplace(field_, value).second)
        fail(
            where_,
            "__metadata__: expected each key once, found \"{}\" twice",
            printable(field_));
      return true;
    }
    if (depth_ != 2 || field_ != "dtype")
      unexpected('"' + printable(value) + '"');
    auto storage = storage_named(value);
    if (!storage)
      fail(
          tensor(),
          "expected a dtype such as F32, BF16, U32 or F8_E4M3, found \"{}\"",
          printable(value));
    content.tensors.back().storage = *storage;
    return true;
  }
  bool number_integer(number_integer_t value) override {
    unexpected(std::to_string(value));
  }
  bool number_float(number_float_t, const string_t& text) override {
    unexpected(printable(text));
  }
  bool boolean(bool value) override {
    unexpected(value ? "true" : "false");
  }
  bool null() override {
    if (depth_ == 1 && metadata_) return true; // MLX writes so without any
    unexpected("null");
  }
  bool binary(binary_t&) override {
    unexpected("binary data");
  }
  bool parse_error(
      std::size_t position,
      const std::string& token,
      const nlohmann::detail::exception&) override {
    fail(
        where_,
        "expected a JSON header, found a syntax error at byte {} near \"{}\"",
        position + 8,
        printable(token, 40));
  }

 private:
  template <typename... Args>
  [[noreturn]] static void fail(
      std::string_view where,
      fmt::format_string<Args...> text,
      Args&&... args) {
    mlxlm::fail(ErrorKind::weights, where, text, std::forward<Args>(args)...);
  }
  std::string tensor() const {
    return fmt::format("{}: {}", where_, printable(name_));
  }
  [[noreturn]] void unexpected(std::string_view found) const {
    if (depth_ == 0) fail(where_, "expected a JSON object, found {}", found);
    if (depth_ == 1)
      fail(
          tensor(),
          "expected an object with dtype, shape, data_offsets, found {}",
          found);
    if (metadata_)
      fail(
          where_,
          "__metadata__: expected a string under \"{}\", found {}",
          printable(field_),
          found);
    std::string_view expected = field_ == "dtype" ? "a string"
        : field_ == "shape" ? "a list of non-negative integers"
                            : "two non-negative integers";
    fail(tensor(), "{}: expected {}, found {}", field_, expected, found);
  }
  void check_name(const std::string& name) const {
    if (name.empty()) fail(where_, "expected tensor names, found an empty one");
    if (name.size() > limits_.name_bytes)
      fail(
          where_,
          "expected names of at most {} bytes, found one of {}: {}",
          limits_.name_bytes,
          name.size(),
          printable(name, 40));
    for (unsigned char c : name)
      if (c < 0x20 || c == 0x7f)
        fail(
            where_,
            "expected names without control characters, found \"{}\"",
            printable(name));
  }
  void check_field() {
    bool repeated = false;
    if (field_ == "dtype")
      repeated = std::exchange(seen_dtype_, true);
    else if (field_ == "shape")
      repeated = std::exchange(seen_shape_, true);
    else if (field_ == "data_offsets")
      repeated = std::exchange(seen_offsets_, true);
    else
      fail(
          tensor(),
          "expected dtype, shape and data_offsets, found \"{}\"",
          printable(field_));
    if (repeated) fail(tensor(), "expected {} once, found it twice", field_);
  }
  void finish_tensor() {
    if (!seen_dtype_) fail(tensor(), "expected a dtype, found none");
    if (!seen_shape_) fail(tensor(), "expected a shape, found none");
    if (bounds_.size() != 2)
      fail(tensor(), "expected two data_offsets, found {}", bounds_.size());
    offsets.back() = {bounds_[0], bounds_[1]};
  }

  std::string where_;
  const SafetensorsLimits& limits_;
  int depth_ = 0;
  bool metadata_ = false;
  bool seen_metadata_ = false;
  bool seen_dtype_ = false;
  bool seen_shape_ = false;
  bool seen_offsets_ = false;
  std::size_t metadata_bytes_ = 0;
  std::string name_;
  std::string field_;
  std::vector<std::uint64_t> bounds_;
};

using Range = std::pair<std::uint64_t, std::uint64_t>;

// Each tensor's bytes are exactly its shape, inside the data.
void check_sizes(
    const SafetensorsContent& content,
    const std::vector<Range>& offsets,
    std::uint64_t data_bytes,
    std::string_view where) {
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    const auto& t = content.tensors[i];
    auto in = [&] { return fmt::format("{}: {}", where, printable(t.name)); };
    auto [begin, end] = offsets[i];
    if (begin > end)
      fail(
          ErrorKind::weights,
          in(),
          "expected data_offsets in order, found [{}, {}]",
          begin,
          end);
    if (end > data_bytes)
      fail(
          ErrorKind::weights,
          in(),
          "expected data up to byte {}, found a file with {}; incomplete download?",
          end,
          data_bytes);
    const auto& type = info(t.storage);
    auto size = storage_bytes(t.shape, type.block, type.bytes);
    if (!size)
      fail(
          ErrorKind::weights,
          in(),
          "expected a shape that can be held, found [{}] of {}",
          fmt::join(t.shape, ", "),
          type.name);
    if (*size != end - begin)
      fail(
          ErrorKind::weights,
          in(),
          "expected {} bytes for [{}] of {}, found {}",
          *size,
          fmt::join(t.shape, ", "),
          type.name,
          end - begin);
  }
}

// No gaps, no overlaps, no bytes left over.
void check_coverage(
    const SafetensorsContent& content,
    const std::vector<Range>& offsets,
    std::uint64_t data_bytes,
    std::string_view where) {
  std::vector<std::size_t> order(offsets.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  std::sort(order.begin(), order.end(), [&](auto a, auto b) {
    return offsets[a] < offsets[b];
  });
  std::uint64_t covered = 0;
  for (std::size_t i : order) {
    auto [begin, end] = offsets[i];
    if (begin != covered)
      fail(
          ErrorKind::weights,
          fmt::format("{}: {}", where, printable(content.tensors[i].name)),
          "expected data to begin at byte {}, found {}: {}",
          covered,
          begin,
          begin < covered ? "it overlaps another tensor" : "a gap before it");
    covered = end;
  }
  if (covered != data_bytes)
    fail(
        ErrorKind::weights,
        where,
        "expected {} bytes of data, found {}: bytes after the last tensor",
        covered,
        data_bytes);
}

void check_unique(
    const SafetensorsContent& content,
    const std::vector<Range>& offsets,
    std::string_view where) {
  std::unordered_map<std::string_view, std::size_t> seen;
  seen.reserve(content.tensors.size());
  for (std::size_t i = 0; i < content.tensors.size(); ++i) {
    auto [at, fresh] = seen.emplace(content.tensors[i].name, i);
    if (!fresh)
      fail(
          ErrorKind::weights,
          where,
          "expected each tensor once, found {} at data bytes {} and {}",
          printable(content.tensors[i].name),
          offsets[at->second].first,
          offsets[i].first);
  }
}

std::uint64_t header_length(
    std::span<const std::byte> bytes,
    std::string_view where,
    const SafetensorsLimits& limits) {
  if (bytes.size() < 8)
    fail(
        ErrorKind::weights,
        where,
        "expected a safetensors file, found {} bytes: shorter than its header",
        bytes.size());
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i)
    length = length << 8 |
        std::to_integer<std::uint64_t>(bytes[static_cast<std::size_t>(i)]);
  if (length < 2 || length > limits.header_bytes)
    fail(
        ErrorKind::weights,
        where,
        "expected a header of 2 to {} bytes, found {}",
        limits.header_bytes,
        length);
  if (length > bytes.size() - 8)
    fail(
        ErrorKind::weights,
        where,
        "file is {} bytes, its header needs {}; incomplete download?",
        bytes.size(),
        length + 8);
  return length;
}

} // namespace

SafetensorsContent parse_safetensors(
    std::span<const std::byte> bytes,
    std::string_view where,
    const SafetensorsLimits& limits) {
  const auto length = header_length(bytes, where, limits);
  std::string_view header(
      reinterpret_cast<const char*>(bytes.data()) + 8, length);
  HeaderReader reader(where, limits);
  Json::sax_parse(header.begin(), header.end(), &reader);
  auto data = bytes.subspan(8 + length);
  check_sizes(reader.content, reader.offsets, data.size(), where);
  check_unique(reader.content, reader.offsets, where);
  check_coverage(reader.content, reader.offsets, data.size(), where);
  for (std::size_t i = 0; i < reader.offsets.size(); ++i) {
    auto [begin, end] = reader.offsets[i];
    reader.content.tensors[i].bytes = data.subspan(begin, end - begin);
    reader.content.tensors[i].offset = 8 + length + begin;
  }
  return std::move(reader.content);
}

SafetensorsSource::SafetensorsSource(const std::vector<std::string>& paths) {
  for (const auto& path : paths) {
    auto file = std::make_shared<const MappedFile>(path);
    auto content = parse_safetensors(file->bytes(), file_name(path));
    for (auto& tensor : content.tensors) {
      tensor.file = file;
      tensors_.push_back(std::move(tensor));
    }
    metadata_.merge(content.metadata);
  }
  index_.reserve(tensors_.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    auto [at, fresh] = index_.emplace(tensors_[i].name, i);
    if (!fresh)
      fail(
          ErrorKind::weights,
          tensors_[i].where(),
          "expected each tensor in one file, found it also in {}",
          file_name(tensors_[at->second].file->path()));
  }
}

const TensorView* SafetensorsSource::find(std::string_view name) const {
  auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

std::vector<std::string> SafetensorsSource::names() const {
  std::vector<std::string> out;
  out.reserve(tensors_.size());
  for (const auto& tensor : tensors_)
    out.push_back(tensor.name);
  return out;
}

} // namespace mlxlm
