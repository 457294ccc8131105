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

std::vector<int> prompt_ids(const Values& values, const TextCodec& codec) {
  auto prompt = values.text("prompt");
  if (prompt == "-") prompt = read_stdin();
  if (!valid_utf8(prompt))
    fail(ErrorKind::request, "--prompt", "expected UTF-8 text");
  if (values.flag("ignore-chat-template") || !codec.has_chat_template())
    return codec.encode(prompt + values.text("prefill-response"));

  std::vector<Message> messages;
  if (values.has("system-prompt"))
    messages.push_back({"system", values.text("system-prompt")});
  messages.push_back({"user", prompt});
  TemplateInput input{
      .messages = to_json(messages),
      .kwargs = values.text("chat-template-config"),
      .add_generation_prompt = true};
  // The start of the answer continues the rendered text, so that it is
  // tokenized together with it.
  return codec.encode(
      codec.render(input) + values.text("prefill-response"), false);
}

} // namespace

int run_generate(const Values& values) {
  auto model = load_model(values);
  auto ids = prompt_ids(values, model->codec());
  auto generation =
      model->generate(std::move(ids), parameters(values, model->codec()));
  if (values.has("prefill-response")) print(values.text("prefill-response"));
  stream(*generation);
  print("\n");
  bool cancelled = generation->info().finish_reason == FinishReason::cancelled;
  if (values.flag("verbose")) print_statistics(generation->info());
  return cancelled ? 130 : 0;
}

} // namespace mlxlm::cli
