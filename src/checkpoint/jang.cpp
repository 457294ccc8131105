#include "checkpoint/jang.h"

#include "checkpoint/safetensors.h"
#include "core/check.h"
#include "core/files.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

// The first that exists counts; all but the first are names of old.
constexpr const char* marks[] = {
    "jang_config.json",
    "jjqf_config.json",
    "jang_cfg.json",
    "mxq_config.json"};

} // namespace

std::optional<JangMark> find_jang(const std::string& folder) {
  for (const char* name : marks) {
    auto path = join_path(folder, name);
    if (!is_file(path)) continue;
    Fields f(read_json(path), name);
    auto format = f.opt("format", "jang");
    if (lower_ascii(format).find("jang") == std::string::npos &&
        lower_ascii(format) != "jjqf" && lower_ascii(format) != "mxq")
      fail(
          ErrorKind::config,
          f.where("format"),
          "expected \"jang\", found \"{}\"",
          printable(format));
    // Written as "2.0" or as a number.
    auto version = f.find<Json>("format_version").value_or("2.0");
    if (!version.is_string() && !version.is_number())
      fail(
          ErrorKind::config,
          f.where("format_version"),
          "expected a version, found {}",
          describe(version));
    auto text =
        version.is_string() ? version.get<std::string>() : version.dump();
    return JangMark{name, starts_with(text, "2")};
  }
  return std::nullopt;
}

std::vector<std::string> jang_files(const std::string& folder) {
  std::vector<std::string> out;
  for (const auto& name : list_directory(folder))
    if (ends_with(name, ".jang.safetensors"))
      out.push_back(join_path(folder, name));
  return out.empty() ? safetensors_files(folder) : out;
}

std::vector<Rule> jang_rules(const Fields& config) {
  std::vector<Rule> rules = {
      drop("*vision_tower.*"),
      drop("*multi_modal_projector.*"),
      drop("*embed_vision.*"),
      drop("*audio_tower.*"),
      drop("*embed_audio.*"),
      drop("*_scale_inv"),
      drop("*_activation_scale"),
      drop("*.importance"),
      rename("model.language_model.*", "model.*"),
      rename("language_model.*", "*"),
      drop("mtp.*"),
      drop("*.mtp.*")};
  auto text =
      config.is_object("text_config") ? config.sub("text_config") : config;
  auto is = [&](std::string_view family) {
    return starts_with(config.opt("model_type", ""), family) ||
        starts_with(text.opt("model_type", ""), family);
  };
  if (is("gemma4")) {
    rules.push_back(rename("*.switch_mlp.*", "*.experts.switch_glu.*"));
    // Tables may be longer than the vocabulary.
    if (auto vocab = text.find<std::int64_t>("vocab_size"))
      for (const char* table : {"model.embed_tokens.*", "lm_head.*"})
        rules.push_back(first_rows(table, *vocab));
  }
  if (is("nemotron_h")) {
    rules.push_back(rename("*.switch_mlp.up_proj.*", "*.switch_mlp.fc1.*"));
    rules.push_back(rename("*.switch_mlp.down_proj.*", "*.switch_mlp.fc2.*"));
  }
  return rules;
}

} // namespace mlxlm
