// Nemotron-NAS: Llama whose layers a search chose one by one: attention with
// its own number of key heads, a matrix instead, or none; likewise the MLP.
#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

// A block of one matrix.
class Single : public Block {
 public:
  explicit Single(Linear linear) : linear_(std::move(linear)) {}
  mx::array operator()(const mx::array& x, const Step&, LayerCache*)
      const override {
    return linear_(x);
  }

 private:
  Linear linear_;
};

BlockPtr single(const Scope& s, const Common& c, Bias bias) {
  return std::make_unique<Single>(
      s.linear("linear", c.hidden, c.hidden, {.bias = bias}));
}

// Two thirds of the width times `ffn_mult`, up to a multiple of 256.
int inner_width(const Fields& f, int hidden) {
  double mult = std::round(f.req<double>("ffn_mult") * 1e6) / 1e6;
  if (!(mult > 0 && mult <= 256))
    fail(
        ErrorKind::config,
        f.where("ffn_mult"),
        "expected a number in (0, 256], found {}",
        mult);
  int width = static_cast<int>(2 * mult * hidden / 3);
  return (width + 255) / 256 * 256;
}

BlockPtr chosen_attention(
    const Fields& f,
    const Fields& choice,
    const Common& c,
    const Rope& rope,
    const Scope& s) {
  auto bias = bias_if(f.opt("attention_bias", false));
  if (choice.opt("no_op", false)) return nullptr;
  if (choice.opt("replace_with_linear", false)) return single(s, c, bias);
  auto a = c.attention();
  int group = choice.range("n_heads_in_group", 1, c.heads);
  if (c.heads % group != 0)
    fail(
        ErrorKind::config,
        choice.where("n_heads_in_group"),
        "expected a divisor of num_attention_heads {}, found {}",
        c.heads,
        group);
  a.kv_heads = c.heads / group;
  a.rope = rope;
  a.bias = a.out_bias = bias;
  return attention(s, a);
}

BlockPtr chosen_mlp(
    const Fields& f,
    const Fields& choice,
    const Common& c,
    const Scope& s) {
  auto m = c.mlp();
  m.bias = bias_if(f.opt("mlp_bias", false));
  if (choice.opt("no_op", false)) return nullptr;
  if (choice.opt("replace_with_linear", false)) return single(s, c, m.bias);
  m.inner = inner_width(choice, c.hidden);
  return gated_mlp(s, m);
}

} // namespace

ModelPtr nemotron_nas(const Fields& f, const Scope& w) {
  auto c = Common::parse(with_defaults(f, {{"rms_norm_eps", 1e-5}}));
  auto choices = f.req<Json>("block_configs");
  bool objects = choices.is_array() &&
      static_cast<int>(choices.size()) == c.depth &&
      std::all_of(choices.begin(), choices.end(), [](const Json& choice) {
                   return choice.is_object();
                 });
  if (!objects)
    fail(
        ErrorKind::config,
        f.where("block_configs"),
        "expected a list of {} objects, one a layer, found something else",
        c.depth);
  auto rope = Rope::from(f, c.head_dim, {.theta = 500000});
  auto block = [&](int i, const Scope& s) {
    Fields choice(
        choices[i], f.where("block_configs") + "[" + std::to_string(i) + "]");
    Layer l;
    auto add = [&](const char* norm, BlockPtr op) {
      if (op)
        l.parts.push_back({rms_norm(s, norm, c.hidden, c.eps), std::move(op)});
    };
    add("input_layernorm",
        chosen_attention(f, choice.sub("attention"), c, rope, s / "self_attn"));
    add("post_attention_layernorm",
        chosen_mlp(f, choice.sub("ffn"), c, s / "mlp"));
    return l;
  };
  return decoder(w, c.decoder(w), block);
}

} // namespace mlxlm::models
