// A tokenizer from the files of a checkpoint folder, read as transformers reads
// them: tokenizer.json is the tokenizer; tokenizer_config.json and
// special_tokens_map.json name its special tokens and may add tokens; templates
// lie in files of their own or in tokenizer_config.json.
#include <algorithm>

#include "core/check.h"
#include "core/fields.h"
#include "core/files.h"
#include "core/strings.h"
#include "text/rust.h"
#include "text/tokenizer.h"

namespace mlxlm {
namespace {

constexpr const char* special_names[] = {
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token"};

Json read_optional(const std::string& directory, const char* name) {
  auto path = join_path(directory, name);
  if (!is_file(path)) {
    return Json::object();
  }
  auto json = read_json(path);
  if (!json.is_object()) {
    fail(
        ErrorKind::config,
        name,
        "expected an object, found {}",
        describe(json));
  }
  return json;
}

// A special token is a string or an object with "content".
std::string content_of(const Json& token, const std::string& where) {
  if (token.is_string()) {
    return token.get<std::string>();
  }
  if (token.is_object() && token.contains("content") &&
      token["content"].is_string()) {
    return token["content"].get<std::string>();
  }
  fail(
      ErrorKind::config,
      where,
      "expected a token's string, found {}",
      describe(token));
}

void read_special_tokens(
    const Json& json,
    const char* file,
    TokenizerInfo& info) {
  for (const char* name : special_names) {
    auto found = json.find(name);
    if (found != json.end() && !found->is_null()) {
      info.special_tokens.emplace(
          name, content_of(*found, fmt::format("{}: {}", file, name)));
    }
  }
}

// {"name": …, "template": …} of the list form.
void read_named_template(const Json& entry, TokenizerInfo& info) {
  Fields fields(entry, "tokenizer_config.json: chat_template");
  info.chat_templates[fields.req<std::string>("name")] =
      fields.req<std::string>("template");
}

void read_template_field(
    const Json& json,
    const char* file,
    TokenizerInfo& info) {
  auto found = json.find("chat_template");
  if (found == json.end() || found->is_null()) {
    return;
  }
  if (found->is_string()) {
    info.chat_templates["default"] = found->get<std::string>();
  } else if (found->is_array()) {
    for (const auto& entry : *found) {
      read_named_template(entry, info);
    }
  } else {
    fail(
        ErrorKind::config,
        fmt::format("{}: chat_template", file),
        "expected a string or a list, found {}",
        describe(*found));
  }
}

void read_templates(
    const std::string& directory,
    const Json& config,
    TokenizerInfo& info) {
  if (auto type = config.find("tool_parser_type");
      type != config.end() && type->is_string())
    info.tool_parser_type = type->get<std::string>();
  read_template_field(config, "tokenizer_config.json", info);
  read_template_field(
      read_optional(directory, "chat_template.json"),
      "chat_template.json",
      info);
  auto file = join_path(directory, "chat_template.jinja");
  if (is_file(file)) {
    info.chat_templates["default"] = read_file(file, std::size_t{8} << 20);
  }
  auto folder = join_path(directory, "additional_chat_templates");
  if (!is_directory(folder)) {
    return;
  }
  for (const auto& name : list_directory(folder)) {
    if (ends_with(name, ".jinja")) {
      info.chat_templates[name.substr(0, name.size() - 6)] =
          read_file(join_path(folder, name), std::size_t{8} << 20);
    }
  }
}

// Tokens that tokenizer_config.json knows and tokenizer.json may not, in the
// order in which transformers adds them.
Json tokens_to_add(const Json& config, const TokenizerInfo& info) {
  std::vector<std::pair<long, Json>> listed;
  if (auto found = config.find("added_tokens_decoder");
      found != config.end() && found->is_object()) {
    for (const auto& [id, token] : found->items()) {
      content_of(token, "tokenizer_config.json: added_tokens_decoder");
      listed.emplace_back(std::strtol(id.c_str(), nullptr, 10), token);
    }
  }
  std::stable_sort(listed.begin(), listed.end(), [](auto& a, auto& b) {
    return a.first < b.first;
  });
  auto full = [](std::string_view content, bool special, const Json& like) {
    auto flag = [&](const char* name, bool fallback) {
      return like.is_object() ? like.value(name, fallback) : fallback;
    };
    return Json{
        {"content", content},
        {"single_word", flag("single_word", false)},
        {"lstrip", flag("lstrip", false)},
        {"rstrip", flag("rstrip", false)},
        {"normalized", flag("normalized", !special)},
        {"special", special}};
  };
  auto result = Json::array();
  for (const auto& [id, token] : listed) {
    bool special = token.is_object() && token.value("special", false);
    result.push_back(full(content_of(token, {}), special, token));
  }
  for (const char* name : special_names) {
    if (auto found = info.special_tokens.find(name);
        found != info.special_tokens.end()) {
      result.push_back(full(found->second, true, Json()));
    }
  }
  return result;
}

} // namespace

TokenizerPtr Tokenizer::from_directory(const std::string& path) {
  auto file = join_path(path, "tokenizer.json");
  if (!is_file(file)) {
    fail(
        ErrorKind::io,
        path,
        "expected a tokenizer.json, found none; a SentencePiece tokenizer.model "
        "alone must be converted first");
  }
  TokenizerInfo info;
  auto config = read_optional(path, "tokenizer_config.json");
  read_special_tokens(config, "tokenizer_config.json", info);
  read_special_tokens(
      read_optional(path, "special_tokens_map.json"),
      "special_tokens_map.json",
      info);
  read_templates(path, config, info);

  MappedFile json(file);
  std::string_view text{
      reinterpret_cast<const char*>(json.bytes().data()), json.bytes().size()};
  mlxlm_tokenizer* handle = nullptr;
  text::RustBuffer error;
  int ok = mlxlm_tokenizer_from_json(text::slice(text), &handle, error.out());
  text::check_rust(ok, "tokenizer.json", error);
  std::unique_ptr<mlxlm_tokenizer, Free> owner(handle);
  if (auto added = tokens_to_add(config, info); !added.empty()) {
    auto list = added.dump();
    text::RustBuffer problem;
    ok = mlxlm_tokenizer_add(handle, text::slice(list), problem.out());
    text::check_rust(ok, "tokenizer_config.json", problem);
  }
  if (auto eos = info.special_tokens.find("eos_token");
      eos != info.special_tokens.end()) {
    auto id = mlxlm_tokenizer_id(handle, text::slice(eos->second));
    if (id >= 0) {
      info.eos_ids.insert(static_cast<int>(id));
    }
  }
  return std::make_shared<Tokenizer>(
      owner.release(), "tokenizer.json", std::move(info));
}

} // namespace mlxlm
