// safetensors files: an 8-byte length, a JSON header, the data. Everything is
// checked before a tensor is handed out: sizes equal shapes, the data is
// covered exactly once.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "checkpoint/tensor.h"

namespace mlxlm {

struct SafetensorsLimits {
  std::size_t header_bytes = 100'000'000; // the format's own cap
  std::size_t metadata_bytes = std::size_t{16} << 20;
  std::size_t tensors = 1'000'000;
  std::size_t name_bytes = 4096;
  std::size_t dimensions = 16;
};

struct SafetensorsContent {
  std::vector<TensorView> tensors; // in file order; `file` is not set
  std::map<std::string, std::string> metadata;
};

// Parses a whole file in memory. Throws Error(weights); `where` names the file.
SafetensorsContent parse_safetensors(
    std::span<const std::byte> bytes,
    std::string_view where,
    const SafetensorsLimits& limits = {});

// One or several safetensors files as one source.
class SafetensorsSource : public TensorSource {
 public:
  explicit SafetensorsSource(const std::vector<std::string>& paths);
  const TensorView* find(std::string_view name) const override;
  std::vector<std::string> names() const override;
  const std::map<std::string, std::string>& metadata() const {
    return metadata_;
  }

 private:
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string_view, std::size_t> index_;
  std::map<std::string, std::string> metadata_;
};

// The safetensors files that make up the model in a folder: those of
// model.safetensors.index.json, else model*.safetensors, weight*.safetensors or
// any
// *.safetensors at the top level. Throws Error(io) when there are none.
std::vector<std::string> safetensors_files(const std::string& folder);

// The folder's model; with an index file, every tensor must be where it says.
std::shared_ptr<SafetensorsSource> open_safetensors(const std::string& folder);

} // namespace mlxlm
