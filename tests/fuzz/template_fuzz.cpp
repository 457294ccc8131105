// Chat templates are programs of strangers: whatever the source, it compiles
// and renders within its limits or is refused with a line of text. The input is
// the template, and after a zero byte its variables, when it brings its own.
#include "fuzz.h"
#include "text/rust.h"

using namespace mlxlm;
using namespace mlxlm::text;

namespace {

constexpr std::string_view variables = R"({"messages":[
  {"role":"system","content":"Be brief."},
  {"role":"user","content":"Why is the sky blue?"},
  {"role":"assistant","content":"","tool_calls":[{"type":"function","function":
    {"name":"look","arguments":{"where":"up","n":[1,2.5,null,true]}}}]},
  {"role":"tool","name":"look","content":"blue"}],
  "tools":[{"type":"function","function":{"name":"look","parameters":
    {"type":"object","properties":{"where":{"type":"string"}}}}}],
  "add_generation_prompt":true,"bos_token":"<s>","eos_token":"</s>"})";

constexpr std::size_t output_limit = 1 << 20;

void render(const mlxlm_template* compiled, std::string_view with) {
  mlxlm_render_options options{
      .now = {2026, 1, 31, 23, 59, 58, 0},
      .fuel = 20'000,
      .output_bytes = output_limit};
  RustBuffer out, error;
  int ok = mlxlm_template_render(
      compiled, slice(with), &options, out.out(), error.out());
  fuzz::hold(ok ? out.view().size() <= output_limit : !error.view().empty());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  auto input = fuzz::text(data, size);
  auto end = input.find('\0');
  auto own = end == input.npos ? variables : input.substr(end + 1);
  mlxlm_template* compiled = nullptr;
  RustBuffer error;
  if (!mlxlm_template_compile(
          slice(input.substr(0, end)), &compiled, error.out())) {
    fuzz::hold(!error.view().empty());
    return 0;
  }
  render(compiled, own);
  mlxlm_template_free(compiled);
  return 0;
}
