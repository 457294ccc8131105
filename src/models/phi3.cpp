// Phi-3, 3.5 and Phi-4-mini: a Llama layer with q, k, v in one matrix and gate,
// up in another; long rope.
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

ModelPtr phi3(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  auto window = windows(f, c.depth, [](int) { return true; });
  auto m = c.mlp();
  m.fused = "gate_up_proj";
  return plain_decoder(w, c, m, [&](int i, const Scope&, AttentionOptions& o) {
    o.rope = rope;
    o.window = window[i];
    o.fused = "qkv_proj";
  });
}

} // namespace mlxlm::models
