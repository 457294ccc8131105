#include "generate/workspace.h"

#include <algorithm>
#include <variant>

#include "generate/recordings.h"
#include "runtime/kernels/tape.h"

namespace mlxlm {

std::size_t workspace_bytes(
    const ParameterTable& parameters,
    const WorkspaceShape& shape) {
  std::size_t widest = 0, all = 0; // outputs of a token, but logits
  for (const auto& entry : parameters.entries()) {
    const auto* linear = std::get_if<Linear>(&entry.handle);
    if (!linear) continue;
    auto dims = linear->kernel().shape();
    auto out = static_cast<std::size_t>(dims[dims.size() - 2]);
    if (dims[dims.size() - 2] == shape.vocab) continue;
    widest = std::max(widest, out);
    all += out;
  }
  constexpr std::size_t value = sizeof(float);
  auto tokens = static_cast<std::size_t>(shape.step_tokens);
  auto rows = static_cast<std::size_t>(
      std::min(shape.sequences, Recordings::most_rows));
  // Between two products there is about as much again, and once more.
  auto results = std::min(kernels::most_ahead, 3 * all * tokens * value);
  auto calls = 2 * tokens * widest * value; // one runs, one is ready behind it
  auto decoding = rows * (std::size_t(shape.vocab) + 8 * widest) * value;
  // Requests, samplers, kernels' scratch, gaps of the C library's arenas: with
  // 32 sequences of SmolLM2 14 MB were measured.
  constexpr std::size_t small_things = std::size_t{24} << 20;
  return results + calls + decoding + mlx_cache_bytes + small_things;
}

} // namespace mlxlm
