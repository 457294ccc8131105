#include "convert/folder.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/check.h"
#include "core/files.h"
#include "core/strings.h"
#include "text/gguf_vocabulary.h"

namespace mlxlm::converting {
namespace {

// What transformers and mlx-lm save with a tokenizer, and what mlx-lm copies.
constexpr std::array<std::string_view, 18> copied_files = {
    "*.py",
    "*.tiktoken",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tekken.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer.model.v*",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "vocab",
};

Json tagged(const Json& value) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const double x = value.get<double>();
    const char* name = std::isnan(x) ? "NaN" : x > 0 ? "Infinity" : "-Infinity";
    return {{"__float__", name}};
  }
  if (value.is_object()) {
    auto out = Json::object();
    for (const auto& [key, item] : value.items())
      out[key] = tagged(item);
    return out;
  }
  if (value.is_array()) {
    auto out = Json::array();
    for (const auto& item : value)
      out.push_back(tagged(item));
    return out;
  }
  return value;
}

JsonLimits lenient() {
  JsonLimits limits;
  limits.nonfinite = true;
  return limits;
}

bool truthy(const Json& value) {
  if (value.is_number()) return value.get<double>() != 0;
  return value.is_array() && !value.empty();
}

// The lines between the leading pair of "---", or nothing.
std::vector<std::string> front_matter(const std::string& text) {
  auto lines = split(text, '\n');
  std::vector<std::string> out;
  if (lines.empty() || lines[0] != "---") return out;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    if (lines[i] == "---") return out;
    out.push_back(lines[i]);
  }
  return {};
}

// Sets `key: value`, in its place or at the end.
void set_line(
    std::vector<std::string>& lines,
    const std::string& key,
    std::string_view value) {
  auto line = fmt::format("{}: {}", key, value);
  for (auto it = lines.begin(); it != lines.end(); ++it) {
    if (!starts_with(*it, key + ":")) continue;
    *it = line;
    // What belonged to the value before.
    for (++it;
         it != lines.end() && (starts_with(*it, " ") || starts_with(*it, "-"));)
      it = lines.erase(it);
    return;
  }
  lines.push_back(std::move(line));
}

void add_tag(std::vector<std::string>& lines) {
  for (auto it = lines.begin(); it != lines.end(); ++it) {
    if (*it != "tags:") continue;
    for (++it; it != lines.end() && starts_with(*it, "- "); ++it)
      if (*it == "- mlx") return;
    lines.insert(it, "- mlx");
    return;
  }
  lines.insert(lines.end(), {"tags:", "- mlx"});
}

} // namespace

std::string python_json(const Json& value) {
  return tagged(value).dump(4, ' ', true);
}

Json loaded_config(const Checkpoint& checkpoint) {
  Json config = checkpoint.config.json();
  if (checkpoint.gguf) return config;
  auto generation = join_path(checkpoint.path, "generation_config.json");
  if (is_file(generation)) {
    auto json = read_json(generation, lenient());
    if (json.is_object() && json.contains("eos_token_id") &&
        truthy(json["eos_token_id"]))
      config["eos_token_id"] = json["eos_token_id"];
  }
  if (!config.contains("quantization_config") &&
      config.contains("text_config") && config["text_config"].is_object() &&
      config["text_config"].contains("quantization_config"))
    config["quantization_config"] =
        Json(config["text_config"]["quantization_config"]);
  auto exported = join_path(checkpoint.path, "hf_quant_config.json");
  if (!config.contains("quantization_config") && is_file(exported))
    config["quantization_config"] = read_json(exported, lenient());
  return config;
}

Json saved_config(Json config) {
  config.erase("_name_or_path");
  config.erase("vision_config");
  if (config.contains("quantization"))
    config["quantization_config"] = Json(config["quantization"]);
  std::vector<std::string> keys;
  for (const auto& [key, value] : config.items())
    keys.push_back(key);
  std::sort(keys.begin(), keys.end());
  auto out = Json::object();
  for (const auto& key : keys)
    out[key] = std::move(config[key]);
  return out;
}

std::string model_card(const std::string& source, std::string_view model) {
  std::vector<std::string> lines = {"language: en"};
  auto readme = join_path(source, "README.md");
  if (!model.empty() && is_file(readme))
    if (auto found = front_matter(read_file(readme)); !found.empty())
      lines = found;
  set_line(lines, "library_name", "mlx");
  set_line(lines, "pipeline_tag", "text-generation");
  add_tag(lines);
  if (!model.empty()) set_line(lines, "base_model", model);
  return fmt::format("---\n{}\n---\n", join(lines, "\n"));
}

void copy_files(const std::string& from, const std::string& to) {
  for (const auto& name : list_directory(from)) {
    const bool wanted = std::any_of(
        copied_files.begin(), copied_files.end(), [&](std::string_view glob) {
          return glob_match(glob, name);
        });
    auto path = join_path(from, name);
    if (wanted && is_file(path))
      write_file(join_path(to, name), read_file(path));
  }
}

void write_tokenizer(const GgufFile& file, const std::string& to) {
  auto vocabulary = gguf_vocabulary(file);
  auto tokenizer = tokenizer_from_gguf(vocabulary, file.path());
  const auto& info = tokenizer->info();
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}};
  for (const auto& [name, token] : info.special_tokens)
    config[name] = token;
  config["clean_up_tokenization_spaces"] = false;
  if (info.chat_templates.size() == 1 &&
      info.chat_templates.contains("default")) {
    config["chat_template"] = info.chat_templates.at("default");
  } else if (!info.chat_templates.empty()) {
    auto& list = config["chat_template"] = Json::array();
    for (const auto& [name, text] : info.chat_templates)
      list.push_back({{"name", name}, {"template", text}});
  }
  Json generation = Json::object();
  if (auto bos = vocabulary.ids.find("bos"); bos != vocabulary.ids.end())
    generation["bos_token_id"] = bos->second;
  if (!info.eos_ids.empty()) generation["eos_token_id"] = info.eos_ids;
  auto write = [&](const char* name, std::string_view text) {
    write_file(join_path(to, name), text);
  };
  write("tokenizer.json", tokenizer_json_from_gguf(vocabulary, file.path()));
  write("tokenizer_config.json", python_json(config));
  write("generation_config.json", python_json(generation));
}

} // namespace mlxlm::converting
