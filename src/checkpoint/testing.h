// For tests: builds safetensors and GGUF files, right and wrong ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/gguf.h"
#include "mlxlm/error.h"

namespace mlxlm::testing {

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// The text of the Error that `action` throws, or "no error".
std::string error_of(auto&& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

template <typename T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}
template <typename T>
std::string raw(const std::vector<T>& values) {
  return {
      reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

inline std::string safetensors(std::string_view header, std::string_view data) {
  return raw(std::uint64_t{header.size()}) + std::string(header) +
      std::string(data);
}

// Tensors in memory as a checkpoint.
class MemorySource : public TensorSource {
 public:
  MemorySource& add(
      const std::string& name,
      Storage storage,
      std::vector<std::int64_t> shape,
      std::string_view bytes) {
    auto& owned = tensors_[name];
    owned.bytes = bytes;
    owned.view.name = name;
    owned.view.storage = storage;
    owned.view.shape = std::move(shape);
    owned.view.bytes = as_bytes(owned.bytes);
    return *this;
  }
  // f32: first, first + 1, ...
  MemorySource& counting(
      const std::string& name,
      std::vector<std::int64_t> shape,
      float first = 0) {
    std::size_t n = 1;
    for (auto dim : shape)
      n *= static_cast<std::size_t>(dim);
    std::vector<float> values(n);
    for (auto& v : values)
      v = first++;
    return add(name, Storage::f32, std::move(shape), raw(values));
  }
  const TensorView* find(std::string_view name) const override {
    auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : &it->second.view;
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> out;
    for (const auto& [name, tensor] : tensors_)
      out.push_back(name);
    return out;
  }

 private:
  struct Owned {
    std::string bytes;
    TensorView view;
  };
  std::map<std::string, Owned, std::less<>> tensors_;
};

// A folder that goes with the test.
class TempFolder {
 public:
  TempFolder() {
    path_ = std::filesystem::temp_directory_path() /
        ("mlxlm_test_" + std::to_string(std::random_device{}()) +
         std::to_string(std::random_device{}()));
    std::filesystem::create_directories(path_);
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string path() const {
    return path_.string();
  }
  std::string write(std::string_view name, std::string_view content) const {
    auto file = path_ / name;
    std::ofstream(file, std::ios::binary)
        .write(content.data(), static_cast<std::streamsize>(content.size()));
    return file.string();
  }

 private:
  std::filesystem::path path_;
};

// Writes GGUF version 3. `dims` are in the file's order, fastest first.
class GgufBuilder {
 public:
  static std::string text(std::string_view value) {
    return raw(std::uint64_t{value.size()}) + std::string(value);
  }
  GgufBuilder& key(
      std::string_view name,
      GgufType type,
      std::string_view value) {
    keys_ +=
        text(name) + raw(static_cast<std::uint32_t>(type)) + std::string(value);
    ++key_count;
    return *this;
  }
  GgufBuilder& u32(std::string_view name, std::uint32_t value) {
    return key(name, GgufType::u32, raw(value));
  }
  GgufBuilder& f32(std::string_view name, float value) {
    return key(name, GgufType::f32, raw(value));
  }
  GgufBuilder& string(std::string_view name, std::string_view value) {
    return key(name, GgufType::string, text(value));
  }
  GgufBuilder& strings(
      std::string_view name,
      const std::vector<std::string>& values) {
    std::string payload = raw(static_cast<std::uint32_t>(GgufType::string)) +
        raw(std::uint64_t{values.size()});
    for (const auto& value : values)
      payload += text(value);
    return key(name, GgufType::array, payload);
  }
  GgufBuilder& tensor(
      std::string_view name,
      const std::vector<std::uint64_t>& dims,
      std::uint32_t type,
      std::string_view data) {
    while (data_.size() % alignment != 0)
      data_ += '\0';
    return raw_tensor(name, dims, type, data_.size(), data);
  }
  GgufBuilder& raw_tensor(
      std::string_view name,
      const std::vector<std::uint64_t>& dims,
      std::uint32_t type,
      std::uint64_t offset,
      std::string_view data) {
    tensors_ += text(name) + raw(static_cast<std::uint32_t>(dims.size())) +
        raw(dims) + raw(type) + raw(offset);
    data_ += data;
    ++tensor_count;
    return *this;
  }
  std::string build() const {
    std::string out = magic + raw(version) + raw(tensor_count) +
        raw(key_count) + keys_ + tensors_;
    while (alignment != 0 && out.size() % alignment != 0)
      out += '\0';
    return out + data_;
  }

  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::uint64_t tensor_count = 0;
  std::uint64_t key_count = 0;
  std::uint64_t alignment = 32;

 private:
  std::string keys_, tensors_, data_;
};

} // namespace mlxlm::testing
