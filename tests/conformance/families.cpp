// The families whose cases can be run. One row each.
#include <vector>

#include "conformance.h"

namespace mlxlm::conformance {

std::span<const Family> families() {
  static const std::vector<Family> table = {
      {"adapters", adapter_case},
      {"chat_templates", template_case},
      {"gguf", gguf_case},
      {"jang", jang_case},
      {"kv_cache", kv_case},
      {"quantized", quantized_case},
      {"samplers", sampler_case},
      {"text", text_case},
      {"tokenizer", tokenizer_case},
      {"tool_parsers", tool_case},
      {"turboquant", turboquant_case},
  };
  return table;
}

} // namespace mlxlm::conformance
