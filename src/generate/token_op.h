// The tokens of a pass as a step of the graph: some known, some still being
// drawn by the pass before.
#pragma once

#include <mlx/array.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace mlxlm {

namespace mx = mlx::core;

struct TokenJob {
  // The first tokens of the pass: rows of what the pass before draws. `drawn`
  // is read when the kernel runs.
  std::vector<int> rows;
  const std::int32_t* drawn = nullptr;
  std::vector<int> known; // the others

  int count() const {
    return static_cast<int>(rows.size() + known.size());
  }
};

// [1, N] int32. `drawn`: the ids that `job->rows` are rows of. The job is read
// when the array is evaluated.
mx::array pass_tokens(
    std::shared_ptr<TokenJob> job,
    const std::optional<mx::array>& drawn);

} // namespace mlxlm
