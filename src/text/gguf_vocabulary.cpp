#include "text/gguf_vocabulary.h"

#include "core/strings.h"

namespace mlxlm {
namespace {

constexpr std::string_view prefix = "tokenizer.ggml.";

std::string key(std::string_view name) {
  return std::string(prefix) + std::string(name);
}

// tokenizer.ggml.NAME_token_id -> NAME.
void add_ids(const GgufMetadata& metadata, GgufTokenizer& out) {
  constexpr std::string_view suffix = "_token_id";
  for (const auto& [name, value] : metadata.entries()) {
    if (!starts_with(name, prefix) || !ends_with(name, suffix)) continue;
    auto middle =
        name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
    out.ids[std::string(middle)] =
        static_cast<int>(metadata.req<std::int64_t>(name));
  }
}

void add_templates(const GgufMetadata& metadata, GgufTokenizer& out) {
  constexpr std::string_view base = "tokenizer.chat_template";
  for (const auto& [name, value] : metadata.entries()) {
    if (!starts_with(name, base)) continue;
    auto source = std::get_if<std::string_view>(&value);
    if (!source) continue; // the list of the names
    auto rest = name.substr(base.size());
    if (rest.empty())
      out.chat_templates["default"] = *source;
    else if (rest[0] == '.')
      out.chat_templates[std::string(rest.substr(1))] = *source;
  }
}

} // namespace

GgufTokenizer gguf_vocabulary(const GgufFile& file) {
  const auto& metadata = file.metadata();
  GgufTokenizer out;
  out.model = metadata.req<std::string_view>(key("model"));
  out.pre =
      metadata.get<std::string_view>(key("pre")).value_or(std::string_view{});
  out.tokens = metadata.strings(key("tokens"));
  out.merges = metadata.strings(key("merges"));
  for (double score : metadata.numbers(key("scores")))
    out.scores.push_back(static_cast<float>(score));
  for (auto type : metadata.integers(key("token_type")))
    out.token_type.push_back(static_cast<int>(type));
  out.add_bos_token = metadata.get<bool>(key("add_bos_token"));
  out.add_eos_token = metadata.get<bool>(key("add_eos_token"));
  out.add_space_prefix = metadata.get<bool>(key("add_space_prefix"));
  add_ids(metadata, out);
  add_templates(metadata, out);
  return out;
}

TokenizerPtr gguf_tokenizer(const GgufFile& file) {
  return tokenizer_from_gguf(gguf_vocabulary(file), file.path());
}

} // namespace mlxlm
