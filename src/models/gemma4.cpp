// Gemma 4: norms of q, k and v, wider heads in the global layers, whose values
// may be their keys; the small ones have inputs for every layer and upper
// layers that borrow keys and values; the large ones experts beside the MLP.
#include <mlx/ops.h>

#include <cmath>

#include "core/check.h"
#include "models/families.h"
#include "models/per_layer.h"

namespace mlxlm::models {

namespace {

constexpr auto sliding = "sliding_attention", full = "full_attention";

Fields defaults(const Fields& f) {
  if (f.opt("use_bidirectional_attention", "") == "all")
    fail(
        ErrorKind::config,
        f.where("use_bidirectional_attention"),
        "expected causal attention, found \"all\"");
  return with_defaults(
      f,
      {{"vocab_size", 262144},
       {"num_attention_heads", 8},
       {"num_key_value_heads", 4},
       {"head_dim", 256},
       {"sliding_window", 512},
       {"rope_parameters",
        {{sliding, {{"rope_theta", 10000.0}}},
         {full,
          {{"rope_type", "proportional"},
           {"partial_rotary_factor", 0.25},
           {"rope_theta", 1000000.0}}}}}});
}

int layers_sharing_kv(const Fields& f) {
  return f.range(
      "num_kv_shared_layers",
      0,
      0,
      std::max(0, f.range("num_hidden_layers", 1, 4096) - 1));
}

std::vector<std::string> kinds(const Fields& f, int depth) {
  int pattern = f.range("sliding_window_pattern", 6, 1, 1 << 20);
  auto out = layer_types(f, depth, {sliding, full}, [&](int i) {
    return (i + 1) % pattern ? sliding : full;
  });
  out.back() = full;
  return out;
}

// Sizes of a layer's heads: `per_layer_config` (transformers 5), else those of
// all global layers.
void set_heads(const Fields& f, int index, bool global, AttentionOptions& o) {
  if (f.is_object("per_layer_config")) {
    auto layers = f.sub("per_layer_config");
    // Keys are as long as the longest, with zeros before.
    auto key = std::to_string(index);
    while (key.size() < 4 && !layers.has(key))
      key.insert(0, 1, '0');
    auto own = layers.sub(key);
    o.head_dim = own.range("head_dim", o.head_dim, 1, 1 << 13);
    o.kv_heads = own.range("num_key_value_heads", o.kv_heads, 1, 1 << 14);
  } else if (global) {
    // An explicit null means the heads of the other layers.
    int wide = f.json().contains("global_head_dim") ? o.head_dim : 512;
    o.head_dim = f.range("global_head_dim", wide, 1, 1 << 13);
    if (f.opt("attention_k_eq_v", false))
      o.kv_heads =
          f.range("num_global_key_value_heads", o.kv_heads, 1, 1 << 14);
  }
}

AttentionOptions attention_options(
    const Fields& f,
    const Common& c,
    int index,
    bool global,
    int source,
    const Scope& s) {
  auto o = c.attention();
  set_heads(f, index, global, o);
  o.source = source;
  o.window = global ? 0 : f.range("sliding_window", 1, 1 << 24);
  o.values_are_keys = global && f.opt("attention_k_eq_v", false);
  o.bias = o.out_bias = bias_if(f.opt("attention_bias", false));
  o.scale = 1;
  o.rope = Rope::from(f, o.head_dim, {.layer_type = global ? full : sliding});
  o.q_norm = rms_norm(s, "q_norm", o.head_dim, c.eps);
  if (source < 0) o.k_norm = rms_norm(s, "k_norm", o.head_dim, c.eps);
  o.on_v = rms_norm(c.eps);
  return o;
}

// An MLP and experts beside each other, each between norms of its own. The
// router looks at the same hidden state through a norm without a weight.
class WithExperts : public Block {
 public:
  WithExperts(const Fields& f, const Common& c, const Scope& s)
      : mlp_(gated_mlp(s / "mlp", c.mlp())),
        root_(1 / std::sqrt(static_cast<float>(c.hidden))),
        router_norm_(rms_norm(s / "router", "norm", c.hidden, c.eps)),
        router_(s / "router", router_options(f, c)),
        expert_scale_(s.param(
            "router.per_expert_scale",
            {router_options(f, c).experts},
            mx::float32)),
        experts_(
            s / "experts.switch_glu",
            {.hidden = c.hidden,
             .inner = size_field(f, "moe_intermediate_size"),
             .experts = router_options(f, c).experts,
             .act = c.act}) {
    auto norm = [&](const char* name) {
      return rms_norm(s, name, c.hidden, c.eps);
    };
    before_mlp_ = norm("pre_feedforward_layernorm");
    behind_mlp_ = norm("post_feedforward_layernorm_1");
    before_experts_ = norm("pre_feedforward_layernorm_2");
    behind_experts_ = norm("post_feedforward_layernorm_2");
  }

  mx::array operator()(const mx::array& x, const Step& step, LayerCache*)
      const override {
    auto dense = behind_mlp_((*mlp_)(before_mlp_(x), step, nullptr));
    auto rows = mx::squeeze(x, 0); // [T, hidden]
    auto [ids, weights] =
        router_(router_norm_(rows) * mx::array(root_, rows.dtype()));
    weights = weights * mx::take(*expert_scale_, ids);
    auto parts = experts_(before_experts_(rows), ids); // [T, k, hidden]
    auto w = mx::expand_dims(mx::astype(weights, parts.dtype()), -1);
    auto chosen = mx::expand_dims(mx::sum(parts * w, 1), 0);
    return dense + behind_experts_(chosen);
  }

 private:
  static RouterOptions router_options(const Fields& f, const Common& c) {
    return {
        .hidden = c.hidden,
        .experts = size_field(f, "num_experts"),
        .routing = {.top_k = size_field(f, "top_k_experts"), .normalize = true},
        .name = "proj"};
  }

  BlockPtr mlp_;
  float root_;
  Norm router_norm_;
  Router router_;
  Param expert_scale_;
  Experts experts_;
  Norm before_mlp_, behind_mlp_, before_experts_, behind_experts_;
};

Sublayer feedforward(
    const Fields& f,
    const Common& c,
    bool wide,
    const Scope& s) {
  auto behind = rms_norm(s, "post_feedforward_layernorm", c.hidden, c.eps);
  if (f.opt("enable_moe_block", false))
    return {{}, std::make_unique<WithExperts>(f, c, s), behind};
  auto m = c.mlp();
  if (wide) m.inner *= 2;
  return {
      rms_norm(s, "pre_feedforward_layernorm", c.hidden, c.eps),
      gated_mlp(s / "mlp", m),
      behind};
}

// The layer's own input joins, and all is scaled.
decltype(Layer::end) layer_end(
    const Fields& f,
    const Common& c,
    int index,
    const Scope& s) {
  auto scale = s.find_param("layer_scalar", {1});
  auto scaled = [scale](const mx::array& h) { return scale ? h * **scale : h; };
  if (per_layer_width(f) == 0)
    return [=](const mx::array& h, const std::optional<mx::array>&) {
      return scaled(h);
    };
  return [=, gate = PerLayerGate(f, c, s, index)](
             const mx::array& h, const std::optional<mx::array>& inputs) {
    return scaled(h + gate(h, *inputs));
  };
}

// `source`: the memory layer that each borrows keys and values from, or -1.
BlockMaker gemma4_layers(
    const Fields& f,
    const Common& c,
    const std::vector<int>& source) {
  bool doubled = f.opt("use_double_wide_mlp", false);
  return [=, types = kinds(f, c.depth)](int i, const Scope& s) {
    auto at = s / "self_attn";
    auto a = attention_options(f, c, i, types[i] == full, source[i], at);
    auto l = layer(
        Sublayer{
            rms_norm(s, "input_layernorm", c.hidden, c.eps),
            attention(at, a),
            rms_norm(s, "post_attention_layernorm", c.hidden, c.eps)},
        feedforward(f, c, doubled && source[i] >= 0, s));
    l.end = layer_end(f, c, i, s);
    return l;
  };
}

Common gemma4_common(const Fields& f) {
  auto c = Common::parse(f, true);
  c.act = activation(f, "hidden_activation", "gelu_pytorch_tanh");
  return c;
}

} // namespace

ModelPtr gemma4(const Fields& config, const Scope& w) {
  auto f = defaults(config);
  auto c = gemma4_common(f);
  auto source = borrowed_from(f, kinds(f, c.depth), layers_sharing_kv(f));
  auto o = c.decoder(w);
  o.embed_scale = std::sqrt(static_cast<float>(c.hidden));
  o.softcap = cap_field(f, "final_logit_softcapping", 0);
  if (per_layer_width(f) > 0) o.side = PerLayerInputs(f, c, w);
  return decoder(w, std::move(o), gemma4_layers(f, c, source));
}

// Without a vision tower, and never with inputs for every layer.
ModelPtr gemma4_unified(const Fields& f, const Scope& w) {
  return gemma4(with_defaults(f, {{"hidden_size_per_layer_input", 0}}), w);
}

namespace {

// A head that gives logits of their own only to the tokens of the clusters that
// fit best; the others get less than the least of them.
class ClusteredHead {
 public:
  ClusteredHead(const Fields& f, const Common& c, const Scope& s, Linear head)
      : head_(std::move(head)),
        clusters_(f.range("num_centroids", 2048, 1, c.vocab)),
        best_(f.range("centroid_intermediate_top_k", 32, 1, clusters_)),
        choose_(s.linear("centroids", c.hidden, clusters_)),
        tokens_(mx::zeros({1}, mx::int32)) {
    if (c.vocab % clusters_ != 0)
      fail(
          ErrorKind::config,
          f.where("num_centroids"),
          "expected a divisor of the vocabulary of {} tokens, found {}",
          c.vocab,
          clusters_);
    // Ids are small enough for float32.
    auto order = s.param("token_ordering", {c.vocab}, mx::float32);
    auto ids = mx::clip(*order, mx::array(0.f), mx::array(float(c.vocab - 1)));
    tokens_ = mx::reshape(
        mx::astype(ids, mx::int32), {clusters_, c.vocab / clusters_});
  }

  mx::array operator()(const mx::array& h) const { // [1, N, hidden]
    int n = h.shape(1), each = tokens_.shape(1), vocab = tokens_.size();
    auto fit = mx::reshape(choose_(h), {n, clusters_});
    auto order = mx::argpartition(mx::negative(fit), best_ - 1, -1);
    auto chosen = mx::slice(order, {0, 0}, {n, best_});
    auto ids = mx::reshape(mx::take(tokens_, chosen, 0), {n, best_ * each});
    auto rows = mx::reshape(
        head_.kernel().rows(mx::reshape(ids, {1, -1}), mx::float32),
        {n, best_ * each, h.shape(2)});
    auto x = mx::reshape(mx::astype(h, mx::float32), {n, 1, h.shape(2)});
    auto logits = mx::squeeze(mx::matmul(x, mx::swapaxes(rows, -1, -2)), 1);
    auto least = mx::min(logits, -1, true) - mx::array(1.f);
    return mx::put_along_axis(
        mx::broadcast_to(least, {n, vocab}), ids, logits, -1);
  }

 private:
  Linear head_;
  int clusters_, best_;
  Linear choose_;
  mx::array tokens_; // [clusters, tokens of each]
};

// Guesses for a Gemma 4 whose keys and values it attends to: Input::embeddings
// are that one's of the token, Input::hidden what it made of the token before.
// Its own hidden states are what its next guess gets instead of those, and
// behind them what the head gets.
class Assistant : public Model {
 public:
  Assistant(
      const Fields& outer,
      const Fields& f,
      const Common& c,
      const Scope& w)
      : vocab_(c.vocab),
        width_(size_field(outer, "backbone_hidden_size", 1536)),
        hidden_(c.hidden),
        in_(w.linear("pre_projection", 2 * width_, c.hidden)),
        out_(w.linear("post_projection", c.hidden, width_)),
        stack_(layers(f, c, w / "model.layers")),
        norm_(rms_norm(w, "model.norm", c.hidden, c.eps)),
        head_(
            outer.opt("tie_word_embeddings", true)
                ? w.embedding("model.embed_tokens", c.vocab, c.hidden)
                : w.linear("lm_head", c.hidden, c.vocab)) {
    if (outer.opt("use_ordered_embeddings", false))
      clustered_.emplace(outer, c, w / "masked_embedding", head_);
    for (int i = 0; i < c.depth; ++i)
      seen_.push_back(seen(f, c, i));
  }

  mx::array hidden(
      const Input& input,
      const Step& step,
      Memory& memory,
      const std::vector<int>& rows) const override {
    MLXLM_CHECK(
        input.hidden && input.embeddings, "an assistant without its model");
    int n = input.hidden->shape(1);
    auto state = mx::slice(*input.hidden, {0, 0, 0}, {1, n, width_});
    auto x = in_(mx::concatenate({*input.embeddings, state}, -1));
    auto h = stack_(x, step, memory, rows, norm_);
    return mx::concatenate({out_(h), h}, -1);
  }
  mx::array head(const mx::array& hidden) const override {
    int n = hidden.shape(1);
    auto h = mx::slice(hidden, {0, 0, width_}, {1, n, width_ + hidden_});
    if (clustered_) return (*clustered_)(h);
    return mx::astype(mx::reshape(head_(h), {n, vocab_}), mx::float32);
  }
  std::vector<CacheSpec> caches() const override {
    return seen_;
  }
  int vocab() const override {
    return vocab_;
  }

 private:
  static std::vector<Layer> layers(
      const Fields& f,
      const Common& c,
      const Scope& s) {
    auto make = gemma4_layers(f, c, std::vector<int>(c.depth, 0));
    std::vector<Layer> out;
    for (int i = 0; i < c.depth; ++i)
      out.push_back(make(i, s / i));
    return out;
  }
  static CacheSpec seen(const Fields& f, const Common& c, int i) {
    auto o = c.attention();
    bool global = kinds(f, c.depth)[i] == full;
    set_heads(f, i, global, o);
    if (global) return FullKv{o.kv_heads, o.head_dim};
    return SlidingKv{
        o.kv_heads, o.head_dim, f.range("sliding_window", 1, 1 << 24)};
  }

  int vocab_, width_, hidden_; // width of the model that it assists
  Linear in_, out_;
  Stack stack_;
  Norm norm_;
  Linear head_;
  std::optional<ClusteredHead> clustered_;
  std::vector<CacheSpec> seen_;
};

} // namespace

ModelPtr gemma4_assistant(const Fields& outer, const Scope& w) {
  auto f = defaults(
      outer.sub("text_config").with({{"hidden_size_per_layer_input", 0}}));
  return std::make_unique<Assistant>(outer, f, gemma4_common(f), w);
}

// Keys and values are the model's.
std::vector<Rule> gemma4_assistant_rules(const Fields&, const TensorSource&) {
  std::vector<Rule> rules;
  for (auto name : {"k_proj", "v_proj", "k_norm", "v_norm"})
    rules.push_back(drop(fmt::format("*.self_attn.{}.*", name)));
  return rules;
}

std::vector<Rule> gemma4_rules(const Fields& f, const TensorSource&) {
  auto rules = drop_borrowed(f, layers_sharing_kv(f));
  const std::string experts = "*.experts.switch_glu.";
  rules.push_back(drop("*vision_embedder.*"));
  for (auto limit : {"input_min", "input_max", "output_min", "output_max"})
    rules.push_back(drop(fmt::format("*.{}", limit)));
  rules.push_back(split(
      "*.experts.gate_up_proj",
      {experts + "gate_proj.weight", experts + "up_proj.weight"},
      1));
  rules.push_back(rename("*.experts.down_proj", experts + "down_proj.weight"));
  rules.push_back(rename("*.router.scale", "*.router.norm.weight"));
  return rules;
}

} // namespace mlxlm::models
