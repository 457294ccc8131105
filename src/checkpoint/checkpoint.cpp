#include "checkpoint/checkpoint.h"

#include "checkpoint/gguf.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/jang.h"
#include "checkpoint/safetensors.h"
#include "core/check.h"
#include "core/json.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

Checkpoint open_gguf(const std::string& path) {
  auto file = std::make_shared<const GgufFile>(path);
  auto model = gguf_model(*file);
  return {
      path,
      Fields(std::move(model.config), file_name(path)),
      file,
      std::move(model.rules),
      file,
      {}};
}

// Files in which some libraries say what config.json should.
struct SideFile {
  const char* name;
  const char* method;
  const char* under; // the key that holds the object; empty: the file is it
};
constexpr SideFile side_files[] = {
    {"hf_quant_config.json", "modelopt", "quantization"},
    {"quantize_config.json", "gptq", ""},
    {"quant_config.json", "awq", ""},
};

Fields with_side_files(const Fields& config, const std::string& folder) {
  if (config.is_object("quantization") ||
      config.is_object("quantization_config"))
    return config;
  for (const auto& file : side_files) {
    auto path = join_path(folder, file.name);
    if (!is_file(path)) continue;
    Fields side(read_json(path), file.name);
    auto block = *file.under ? side.sub(file.under).json() : side.json();
    block["quant_method"] = file.method;
    return config.with({{"quantization_config", block}});
  }
  return config;
}

Fields read_config(const std::string& folder) {
  JsonLimits limits;
  limits.nonfinite = true;
  Fields config(
      read_json(join_path(folder, "config.json"), limits), "config.json");
  return with_side_files(config, folder);
}

Checkpoint open_folder(const std::string& path) {
  auto config = read_config(path);
  auto source = open_safetensors(path);
  auto metadata = source->metadata();
  return {
      path,
      std::move(config),
      std::move(source),
      {},
      nullptr,
      std::move(metadata)};
}

// Widths are in the shapes; what config.json says of them may be wrong.
Checkpoint open_jang(const std::string& path, const JangMark& mark) {
  auto config = read_config(path);
  auto source = mark.native
      ? open_safetensors(path)
      : std::make_shared<SafetensorsSource>(jang_files(path));
  auto metadata = source->metadata();
  return {
      path,
      config.with(
          {{"quantization", nullptr}, {"quantization_config", nullptr}}),
      std::move(source),
      jang_rules(config),
      nullptr,
      std::move(metadata),
      true};
}

// The one GGUF file (or first part of a split one) of a folder.
std::optional<std::string> only_gguf(const std::string& folder) {
  std::vector<std::string> found;
  for (const auto& name : list_directory(folder))
    if (ends_with(lower_ascii(name), ".gguf") &&
        (!glob_match("*-*-of-*.gguf", name) ||
         glob_match("*-00001-of-*.gguf", name)))
      found.push_back(name);
  if (found.empty()) return std::nullopt;
  if (found.size() > 1)
    fail(
        ErrorKind::io,
        folder,
        "expected one GGUF file, found {}: {}; name one of them",
        found.size(),
        fmt::join(found, ", "));
  return join_path(folder, found[0]);
}

} // namespace

Checkpoint open_checkpoint(const std::string& path) {
  if (!is_directory(path)) return open_gguf(path);
  if (!is_file(join_path(path, "config.json")))
    if (auto file = only_gguf(path)) return open_gguf(*file);
  if (auto mark = find_jang(path)) return open_jang(path, *mark);
  return open_folder(path);
}

} // namespace mlxlm
