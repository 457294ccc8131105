#include "quant/formats.h"

#include <array>

#include "core/check.h"
#include "core/strings.h"
#include "quant/families.h"

namespace mlxlm::quant {
namespace {

WeightFormatPtr compressed(const Fields&) {
  return compressed_format();
}

// AutoRound writes what others read.
WeightFormatPtr auto_round(const Fields& f) {
  auto packing = lower_ascii(f.opt("packing_format", "auto_round:auto_gptq"));
  if (packing.find("awq") != std::string::npos) return awq_format(f);
  if (packing.find("gptq") != std::string::npos) return gptq_format(f);
  fail(
      ErrorKind::config,
      f.where("packing_format"),
      "expected a GPTQ or AWQ layout, found \"{}\"",
      printable(packing));
}

WeightFormatPtr none(const Fields&) {
  return nullptr;
}

// What `quant_method` of config.json's quantization_config may be, and the
// format that only it tells. Formats that tensors tell are always asked.
struct Method {
  std::string_view name;
  WeightFormatPtr (*format)(const Fields& block);
};
constexpr std::array methods = {
    Method{"auto-round", auto_round},
    Method{"awq", awq_format},
    Method{"bitnet", bitnet_format},
    Method{"compressed-tensors", compressed},
    Method{"fbgemm_fp8", none},
    Method{"fp8", none},
    Method{"gptq", gptq_format},
    Method{"intel/auto-round", auto_round},
    Method{"modelopt", none},
    Method{"modelopt_fp4", none},
    Method{"modelopt_mixed", none},
    Method{"mxfp4", none},
    Method{"mxfp8", none},
    Method{"quark", none},
};

// The block of another library; empty for MLX's own.
Fields foreign(const Fields& config) {
  Fields none(Json::object(), "config.json");
  if (config.is_object("quantization")) return none;
  if (config.is_object("quantization_config"))
    return config.sub("quantization_config");
  if (config.is_object("compression_config"))
    return config.sub("compression_config");
  auto text =
      config.is_object("text_config") ? config.sub("text_config") : none;
  return text.is_object("quantization_config") ? text.sub("quantization_config")
                                               : none;
}

// An object whose class is known by its keys where the method is not said.
std::string method_of(const Fields& block) {
  if (block.has("quant_method")) return block.req<std::string>("quant_method");
  if (block.opt("load_in_4bit", false) || block.opt("load_in_8bit", false))
    return "bitsandbytes";
  if (block.has("config_groups")) return "compressed-tensors";
  if (block.has("quant_algo")) return "modelopt";
  return "";
}

WeightFormatPtr foreign_format(const Fields& block) {
  auto name = method_of(block);
  if (name.empty()) return nullptr;
  std::vector<std::string> known;
  for (const auto& method : methods) {
    if (method.name == name) return method.format(block);
    known.emplace_back(method.name);
  }
  fail(
      ErrorKind::config,
      block.where("quant_method"),
      "expected {}, found \"{}\"{}",
      join(known, ", "),
      printable(name),
      name == "bitsandbytes" ? "; convert the unquantized model instead" : "");
}

} // namespace

std::vector<WeightFormatPtr> formats(const Fields& config, bool jang) {
  auto block = jang ? Fields(Json::object(), "config.json") : foreign(config);
  std::vector<WeightFormatPtr> out;
  if (jang) out.push_back(jang_gates());
  if (auto format = foreign_format(block)) out.push_back(std::move(format));
  out.insert(
      out.end(),
      {fp4_format(), // bytes of two codes with weight_scale
       fp8_format(block), // F8_E4M3 with weight_scale or weight_scale_inv
       mlx_format(config), // a module with scales
       gguf_format(), // blocks of GGUF types
       dense_format()}); // F32, F16, BF16
  return out;
}

} // namespace mlxlm::quant
