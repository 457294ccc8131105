// Every format's row, each defined in the file of its name.
#pragma once

#include "text/tools/tool_format.h"

namespace mlxlm::tools {

extern const ToolFormat json_tools; // Hermes: Qwen, SmolLM3 and many more
extern const ToolFormat qwen3_coder; // XML: Qwen3-Coder, Nemotron
extern const ToolFormat qwen3_5; // that or Hermes inside the same marks
extern const ToolFormat seed_oss; // that between marks of its own
extern const ToolFormat mistral;
extern const ToolFormat llama3;
extern const ToolFormat pythonic; // LFM2
extern const ToolFormat function_gemma;
extern const ToolFormat gemma4;
extern const ToolFormat glm47; // GLM-4.5 and on, Laguna
extern const ToolFormat longcat;
extern const ToolFormat kimi_k2;
extern const ToolFormat kimi_k3;
extern const ToolFormat minimax_m2;
extern const ToolFormat minimax_m3;
extern const ToolFormat minicpm5;
extern const ToolFormat muse_spark; // ATEM
extern const ToolFormat harmony; // GPT-OSS
extern const ToolFormat deepseek_v3, deepseek_v31, deepseek_v32;
// JSON lists between marks.
extern const ToolFormat cohere, granite, phi4, nemotron, internlm, hunyuan;

// The calls of JSON text: one object or a list of them, as OpenAI's, with
// "parameters" instead of "arguments", or wrapped in "function". Throws.
std::vector<ParsedCall> json_calls(
    std::string_view text,
    std::string_view format);
// The head of `{"name": "f", "arguments": {`, from `from` on.
std::optional<CallHead> json_head(std::string_view text, std::size_t from);
// A call as XML inside <function=NAME>.
std::vector<ParsedCall> xml_function_calls(
    std::string_view payload,
    const Json& tools);

} // namespace mlxlm::tools
