#include "convert_check.h"

#include <unistd.h>

#include <filesystem>

#include "core/files.h"
#include "golden.h"
#include "mlxlm/convert.h"

namespace mlxlm::conformance {
namespace {

namespace fs = std::filesystem;

class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(
            fs::temp_directory_path() /
            fmt::format("mlxlm-conformance-{}", ::getpid())) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string operator/(const char* name) const {
    return (path_ / name).string();
  }

 private:
  fs::path path_;
};

Json config_of(const std::string& folder) {
  return read_json(join_path(folder, "config.json"), {.nonfinite = true});
}

Quantization quantization(const Json& entry) {
  Fields f(entry, "quantization");
  return {f.opt("bits", 0), f.opt("group_size", 0), f.opt("mode", "affine")};
}

ConvertOptions options_of(const Case& c, const Json& expected) {
  auto f = c.json.sub("convert");
  ConvertOptions o;
  o.quantize = f.opt("quantize", false);
  o.dequantize = f.opt("dequantize", false);
  o.quantization = {
      f.opt("q_bits", 0), f.opt("q_group_size", 0), f.opt("q_mode", "affine")};
  o.recipe = f.opt("quant_predicate", "");
  o.dtype = f.opt("dtype", "");
  // Made by a function of its own: its choices are in the result.
  if (c.json.has("override"))
    for (const auto& [path, entry] : expected.at("quantization").items()) {
      if (entry.is_object()) o.layers.emplace_back(path, quantization(entry));
      if (entry.is_boolean()) o.layers.emplace_back(path, std::nullopt);
    }
  return o;
}

// Entries that leave the mode out mean affine.
void add_modes(Json& block) {
  for (auto& [key, entry] : block.items())
    if (entry.is_object() && !entry.contains("mode")) entry["mode"] = "affine";
}

// Key order within the quantization block is the one thing left free.
std::string config_difference(Json found, Json expected) {
  auto keys = [](const Json& json) {
    std::string out;
    for (const auto& [key, value] : json.items())
      out += key + " ";
    return out;
  };
  if (keys(found) != keys(expected))
    return fmt::format("config.json keys {}", keys(found));
  for (auto& [key, value] : expected.items()) {
    if (key.find("quantization") == 0) {
      add_modes(value);
      add_modes(found[key]);
    }
    if (nlohmann::json(found[key]) != nlohmann::json(value))
      return fmt::format("config.json {} {}", key, found[key].dump());
  }
  return {};
}

std::string tensor_difference(const Golden& found, const Golden& expected) {
  for (const auto& [name, tensor] : expected.tensors()) {
    if (!found.has(name)) return name + " missing";
    const auto& other = found[name];
    if (other.dtype != tensor.dtype)
      return fmt::format("{} {}, not {}", name, other.dtype, tensor.dtype);
    if (other.shape != tensor.shape)
      return fmt::format("{} [{}]", name, fmt::join(other.shape, ", "));
    if (other.bytes != tensor.bytes) return name;
  }
  for (const auto& [name, tensor] : found.tensors())
    if (!expected.has(name)) return name + " too many";
  return {};
}

} // namespace

std::string conversion_difference(const Case& c) {
  TemporaryFolder temporary;
  auto expected = config_of(c.path("model"));
  auto options = options_of(c, expected);
  options.output = temporary / "out";
  convert(c.path(c.json.req<std::string>("source")), options);
  auto text = config_difference(config_of(options.output), expected);
  if (!text.empty()) return text;
  return tensor_difference(
      Golden(join_path(options.output, "model.safetensors")),
      Golden(c.path("model/model.safetensors")));
}

} // namespace mlxlm::conformance
