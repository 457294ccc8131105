#include "generate/codec.h"

#include "checkpoint/gguf.h"
#include "core/check.h"
#include "core/files.h"
#include "core/json.h"
#include "core/strings.h"
#include "text/chat_template.h"
#include "text/gguf_vocabulary.h"
#include "text/tools/grammar.h"

namespace mlxlm {
namespace {

TokenizerPtr open_tokenizer(const std::string& path) {
  if (is_directory(path)) return Tokenizer::from_directory(path);
  return gguf_tokenizer(GgufFile(path));
}

Json json_or(const std::string& text, std::string_view where, Json fallback) {
  if (text.empty()) return fallback;
  return parse_json(text, where, ErrorKind::request);
}

ChatVariables variables(const TemplateInput& input) {
  return {
      .messages = json_or(input.messages, "messages", Json::array()),
      .tools = json_or(input.tools, "tools", nullptr),
      .add_generation_prompt = input.add_generation_prompt,
      .extra =
          json_or(input.kwargs, "chat template variables", Json::object())};
}

} // namespace

Codec::Codec(const std::string& path)
    : tokenizer_(open_tokenizer(path)),
      prompter_(tokenizer_),
      eos_(tokenizer_->info().eos_ids) {}

std::vector<int> Codec::encode(std::string_view text, bool special) const {
  return tokenizer_->encode(text, {.add_special = special});
}

std::string Codec::decode(std::span<const int> ids, bool skip_special) const {
  return tokenizer_->decode(ids, skip_special);
}

int Codec::token_id(std::string_view token) const {
  return tokenizer_->id_of(token);
}

int Codec::vocab_size() const {
  return tokenizer_->vocab_size();
}

bool Codec::has_chat_template() const {
  return prompter_.has_template();
}

std::string Codec::render(const TemplateInput& input) const {
  return prompter_.render(variables(input));
}

std::vector<int> Codec::apply_chat_template(const TemplateInput& input) const {
  return prompter_.encode_chat(variables(input));
}

Capabilities Codec::capabilities() const {
  Capabilities result{.text = true, .chat = has_chat_template()};
  for (const auto& [name, source] : tokenizer_->info().chat_templates) {
    auto mentions = [&](const char* word) {
      return source.find(word) != std::string::npos;
    };
    result.tools |= mentions("tools");
    result.thinking_switch |= mentions("enable_thinking");
    result.reasoning |= mentions("<think>") || mentions("reasoning_content");
  }
  return result;
}

std::shared_ptr<const TextCodec> TextCodec::load(std::string_view reference) {
  FetchOptions options;
  options.weights = false;
  return std::make_shared<Codec>(fetch(reference, options));
}

std::string render_template(
    std::string_view source,
    const TemplateInput& input,
    std::string_view bos,
    std::string_view eos) {
  auto all = variables(input);
  if (!bos.empty()) all.special_tokens["bos_token"] = bos;
  if (!eos.empty()) all.special_tokens["eos_token"] = eos;
  return ChatTemplate(source).render(all, local_time_now());
}

namespace {

const Tokenizer& tokenizer_of(const ModelContainer& model) {
  const auto* codec = dynamic_cast<const Codec*>(&model.codec());
  MLXLM_CHECK(codec, "a model of this library");
  return *codec->tokenizer();
}

} // namespace

OutputFormat output_format(const ModelContainer& model) {
  return output_format(tokenizer_of(model), model.model_type());
}

ResponseFormat forced_call(
    const ModelContainer& model,
    std::string_view tools,
    std::string_view name,
    bool several) {
  auto format = output_format(model);
  if (!format.tools)
    fail(
        ErrorKind::request,
        "tool_choice",
        "expected a model that calls tools, found {}",
        model.model_type());
  auto source = tool_call_grammar(
      *format.tools,
      parse_json(tools, "tools", ErrorKind::request),
      tokenizer_of(model),
      name,
      several);
  return {ResponseFormat::Type::grammar, std::move(source.text)};
}

} // namespace mlxlm
