// Chat templates are programs of strangers: whatever the source, it compiles
// and renders within its limits or is refused with a line of text. The input is
// the template, and after a zero byte its variables, when it brings its own.
#include "fuzz.h"
#include "text/chat_template.h"

using namespace mlxlm;

namespace {

constexpr std::string_view conversation = R"({"messages":[
  {"role":"system","content":"Be brief."},
  {"role":"user","content":"Why is the sky blue?"},
  {"role":"assistant","content":"","tool_calls":[{"type":"function","function":
    {"name":"look","arguments":{"where":"up","n":[1,2.5,null,true]}}}]},
  {"role":"tool","name":"look","content":"blue"}],
  "tools":[{"type":"function","function":{"name":"look","parameters":
    {"type":"object","properties":{"where":{"type":"string"}}}}}],
  "add_generation_prompt":true,"bos_token":"<s>","eos_token":"</s>"})";

constexpr RenderLimits limits{
    .steps = 20'000,
    .output_bytes = 1 << 20,
    .memory_bytes = 2 << 20};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  auto input = fuzz::text(data, size);
  auto end = input.find('\0');
  fuzz::refused_or_done([&] {
    ChatTemplate compiled(input.substr(0, end));
    auto own = end == input.npos ? conversation : input.substr(end + 1);
    auto variables = parse_json(own, "variables");
    ClockTime now{2026, 1, 31, 23, 59, 58};
    fuzz::refused_or_done([&] {
      auto text = compiled.render(variables, now, limits);
      fuzz::hold(text.size() <= limits.output_bytes);
    });
    ChatVariables chat{.add_generation_prompt = true};
    if (variables.is_object() && variables.contains("messages"))
      chat.messages = variables["messages"];
    fuzz::refused_or_done(
        [&] { compiled.render_continued(chat, now, limits); });
  });
  return 0;
}
