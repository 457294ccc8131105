#include "checkpoint/safetensors_header.h"

#include <cstdint>
#include <optional>

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

class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  HeaderReader(std::string_view where, const SafetensorsLimits& limits)
      : where_(where), limits_(limits) {}

  SafetensorsHeader take() {
    return std::move(out_);
  }

  bool start_object(std::size_t) override {
    if (depth_ > 1) unexpected("an object");
    if (++depth_ == 1 || metadata_) return true;
    if (out_.content.tensors.size() >= limits_.tensors)
      fail(where_, "expected at most {} tensors, found more", limits_.tensors);
    out_.content.tensors.emplace_back();
    out_.content.tensors.back().name = name_;
    out_.offsets.emplace_back();
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
    auto& shape = out_.content.tensors.back().shape;
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
      if (!out_.content.metadata.emplace(field_, value).second)
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
    out_.content.tensors.back().storage = *storage;
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
    out_.offsets.back() = {bounds_[0], bounds_[1]};
  }

  SafetensorsHeader out_;
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

} // namespace

SafetensorsHeader read_safetensors_header(
    std::string_view text,
    std::string_view where,
    const SafetensorsLimits& limits) {
  HeaderReader reader(where, limits);
  Json::sax_parse(text.begin(), text.end(), &reader);
  return reader.take();
}

} // namespace mlxlm
