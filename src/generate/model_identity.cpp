#include "generate/model_identity.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "core/files.h"
#include "core/strings.h"
#include "hub/digest.h"

namespace mlxlm {
namespace {

constexpr std::size_t sample_bytes = 4096, samples = 256;

void add(hub::Digest& sha, const std::string& text) {
  sha.update(std::as_bytes(std::span(text.data(), text.size())));
}

void add_file(hub::Digest& sha, const std::string& path) {
  MappedFile file(path);
  auto bytes = file.bytes();
  auto time = std::filesystem::last_write_time(path).time_since_epoch().count();
  add(sha,
      file_name(path) + "\n" + std::to_string(bytes.size()) + "\n" +
          std::to_string(time) + "\n");
  if (bytes.size() <= sample_bytes * samples) return sha.update(bytes);
  auto stride = (bytes.size() - sample_bytes) / (samples - 1);
  for (std::size_t i = 0; i < samples; ++i)
    sha.update(bytes.subspan(i * stride, sample_bytes));
}

} // namespace

std::string weights_identity(const std::string& path) {
  auto sha = hub::make_sha256();
  if (!is_directory(path)) {
    add_file(*sha, path);
    return sha->finish();
  }
  for (const auto& name : list_directory(path))
    if (ends_with(name, ".safetensors") || ends_with(name, ".json"))
      add_file(*sha, join_path(path, name));
  return sha->finish();
}

} // namespace mlxlm
