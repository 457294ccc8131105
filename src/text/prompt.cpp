#include "text/prompt.h"

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {

const char* const chatml_template =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

Prompter::Prompter(
    TokenizerPtr tokenizer,
    std::optional<std::string> chat_template)
    : tokenizer_(std::move(tokenizer)) {
  auto add = [&](const std::string& name, std::string source) {
    auto lazy = std::make_unique<Lazy>();
    lazy->source = std::move(source);
    templates_.emplace(name, std::move(lazy));
  };
  if (chat_template) {
    add("default", std::move(*chat_template));
    return;
  }
  for (const auto& [name, source] : tokenizer_->info().chat_templates) {
    add(name, source);
  }
}

const ChatTemplate& Prompter::choose(bool tools) const {
  auto found = tools ? templates_.find("tool_use") : templates_.end();
  if (found == templates_.end()) {
    found = templates_.find("default");
  }
  if (found == templates_.end()) {
    fail(
        ErrorKind::text,
        "chat template",
        "expected one with the model, found none; a plain prompt or a template "
        "of your own works");
  }
  auto& lazy = *found->second;
  std::call_once(lazy.once, [&] { lazy.compiled.emplace(lazy.source); });
  return *lazy.compiled;
}

std::string Prompter::render(ChatVariables variables, bool continue_final)
    const {
  for (const auto& [name, token] : tokenizer_->info().special_tokens) {
    variables.special_tokens.emplace(name, token);
  }
  if (variables.tools.is_array() && variables.tools.empty()) {
    variables.tools = nullptr;
  }
  const auto& chosen = choose(!variables.tools.is_null());
  return continue_final ? chosen.render_continued(variables, local_time_now())
                        : chosen.render(variables, local_time_now());
}

std::vector<int> Prompter::encode_chat(
    ChatVariables variables,
    bool continue_final) const {
  return encode_rendered(render(std::move(variables), continue_final));
}

std::vector<int> Prompter::encode_rendered(const std::string& text) const {
  EncodeOptions options;
  options.add_special = false;
  auto ids = tokenizer_->encode(text, options);
  if (tokenizer_->info().bos_before_chat) {
    int bos = tokenizer_->id_of(tokenizer_->special_token("bos_token"));
    if (bos >= 0 && (ids.empty() || ids.front() != bos)) {
      ids.insert(ids.begin(), bos);
    }
  }
  return ids;
}

std::vector<int> Prompter::encode_plain(const std::string& text) const {
  EncodeOptions options;
  auto bos = tokenizer_->special_token("bos_token");
  options.add_special = bos.empty() || !starts_with(text, bos);
  return tokenizer_->encode(text, options);
}

} // namespace mlxlm
