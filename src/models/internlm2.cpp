// InternLM2: Llama with q, k and v in one matrix, group by group.
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

ModelPtr internlm2(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  auto bias = bias_if(f.opt("bias", false));
  return plain_decoder(
      w, c, c.mlp(), [&](int, const Scope&, AttentionOptions& o) {
        o.rope = rope;
        o.bias = o.out_bias = bias;
        o.fused = "wqkv";
        o.fused_by_group = true;
        o.o = "wo";
      });
}

std::vector<Rule> internlm2_rules(const Fields&, const TensorSource&) {
  return {
      rename("model.tok_embeddings.*", "model.embed_tokens.*"),
      rename("output.*", "lm_head.*"),
      rename("*.attention.*", "*.self_attn.*"),
      rename("*.attention_norm.*", "*.input_layernorm.*"),
      rename("*.ffn_norm.*", "*.post_attention_layernorm.*"),
      rename("*.feed_forward.w1.*", "*.mlp.gate_proj.*"),
      rename("*.feed_forward.w2.*", "*.mlp.down_proj.*"),
      rename("*.feed_forward.w3.*", "*.mlp.up_proj.*"),
      drop("*.rope.inv_freq")};
}

} // namespace mlxlm::models
