// generate: one prompt, the answer on standard output as it comes.
#include "cli/commands.h"
#include "cli/running.h"
#include "cli/terminal.h"
#include "core/check.h"
#include "core/json.h"
#include "core/strings.h"
#include "mlxlm/chat.h"

namespace mlxlm::cli {
namespace {

// The text that the model reads and goes on from.
struct Prompt {
  std::string text = {};
  bool special =
      false; // whether the tokenizer adds what it adds to plain texts
};

Prompt prompt_of(const Values& values, const TextCodec& codec) {
  auto prompt = values.text("prompt");
  if (prompt == "-") prompt = read_stdin();
  if (!valid_utf8(prompt))
    fail(ErrorKind::request, "--prompt", "expected UTF-8 text");
  if (values.flag("ignore-chat-template") || !codec.has_chat_template())
    return {prompt + values.text("prefill-response"), true};

  std::vector<Message> messages;
  if (values.has("system-prompt"))
    messages.push_back({"system", values.text("system-prompt")});
  messages.push_back({"user", prompt});
  TemplateInput input{
      .messages = to_json(messages),
      .kwargs = values.text("chat-template-config"),
      .add_generation_prompt = true};
  if (values.text("tool-choice") != "none") input.tools = tools_text(values);
  // The start of the answer continues the rendered text, so that it is
  // tokenized together with it.
  return {codec.render(input) + values.text("prefill-response"), false};
}

// The template's text before and behind where the prompt stands.
struct Around {
  std::string rendered;
  std::size_t at, end;
};

Around around(const Values& values, const TextCodec& codec, bool answer) {
  auto prompt = values.text("prompt");
  if (prompt == "-") prompt = read_stdin();
  if (!valid_utf8(prompt))
    fail(ErrorKind::request, "--prompt", "expected UTF-8 text");
  bool plain = values.command().name == "generate" &&
      values.flag("ignore-chat-template");
  if (plain || !codec.has_chat_template()) return {prompt, 0, prompt.size()};
  TemplateInput input{
      .messages = to_json({Message{"user", prompt}}),
      .add_generation_prompt = answer};
  auto rendered = codec.render(input);
  auto at = rendered.rfind(prompt);
  if (at == std::string::npos) at = 0;
  return {rendered, at, at + prompt.size()};
}

// Goes on behind a file's prompt: the same message with more text in it.
GenerationPtr behind_cache(
    const Values& values,
    ModelContainer& model,
    const GenerateParameters& parameters) {
  auto cache = model.load_prompt_cache(values.text("prompt-cache-file"));
  auto [rendered, at, end] = around(values, model.codec(), true);
  auto ids = cache->tokens();
  auto more = model.codec().encode(
      rendered.substr(at) + values.text("prefill-response"), false);
  ids.insert(ids.end(), more.begin(), more.end());
  return model.generate(std::move(ids), parameters, cache);
}

} // namespace

int run_cache_prompt(const Values& values) {
  if (!values.has("prompt-cache-file"))
    throw UsageError("--prompt-cache-file: required; the file to write");
  auto model = load_model(values);
  auto [rendered, at, end] = around(values, model->codec(), false);
  bool plain = !model->codec().has_chat_template();
  auto ids = model->codec().encode(rendered.substr(0, end), plain);
  auto cache = model->make_prompt_cache();
  GenerateParameters parameters;
  parameters.max_tokens = 1; // reads the prompt
  auto generation = model->generate(std::move(ids), parameters, cache);
  generation->text();
  print_statistics(generation->info());
  generation.reset();
  auto swift = values.text("cache-layout") == "mlx-swift-lm";
  model->save_prompt_cache(
      cache,
      values.text("prompt-cache-file"),
      swift ? PromptCacheLayout::swift : PromptCacheLayout::python);
  return 0;
}

int run_generate(const Values& values) {
  auto model = load_model(values);
  bool cached = values.has("prompt-cache-file");
  auto prompt = cached ? Prompt{} : prompt_of(values, model->codec());
  auto how = parameters(values, model->codec());
  how.response_format = response_format(values, *model);
  auto generation = cached
      ? behind_cache(values, *model, how)
      : model->generate(
            model->codec().encode(prompt.text, prompt.special), how);
  if (values.has("prefill-response")) print(values.text("prefill-response"));
  stream(*generation, *model, prompt.text);
  print("\n");
  bool cancelled = generation->info().finish_reason == FinishReason::cancelled;
  if (values.flag("verbose")) print_statistics(generation->info());
  return cancelled ? 130 : 0;
}

} // namespace mlxlm::cli
