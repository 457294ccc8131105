// Which experts a token goes to, and with what weights: one kernel on CPU, with
// a plain MLX reference beside it.
#pragma once

#include <mlx/array.h>

#include <cstdint>
#include <optional>
#include <utility>

namespace mlxlm::kernels {

namespace mx = mlx::core;

struct Routing {
  enum class Score : std::uint8_t { softmax, sigmoid };
  int top_k = 0;
  Score score = Score::softmax;
  // Experts stand in groups; only those of the best `top_groups` can be chosen.
  // A group is as good as its best expert, or as its best two together.
  int groups = 1, top_groups = 1;
  bool pairs = false;
  bool normalize = false; // the weights of the chosen sum to one; the same as a
                          // softmax over the chosen logits
  float normalize_eps = 0;
  float scale = 1;
};

// Logits [T, E] f32; correction [E] f32 counts for the choice only. Gives
// experts [T, k] uint32, best first, ties to the lower index, and weights
// [T, k] f32.
std::pair<mx::array, mx::array> route(
    const mx::array& logits,
    const std::optional<mx::array>& correction,
    const Routing& routing);

namespace reference {
std::pair<mx::array, mx::array> route(
    const mx::array& logits,
    const std::optional<mx::array>& correction,
    const Routing& routing);
// The same for scores [T, E] that the caller has made of the logits.
std::pair<mx::array, mx::array> route_scores(
    const mx::array& scores,
    const std::optional<mx::array>& correction,
    const Routing& routing);
} // namespace reference

} // namespace mlxlm::kernels
