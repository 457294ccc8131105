// Gemma 3n: several residual streams of which one is active (AltUp); a layer
// predicts them all, runs on the active one, and corrects all by what came out.
// Beside attention a low-rank branch (LAuReL); inputs for every layer; sparse
// activations; upper layers that borrow keys and values.
#include <mlx/ops.h>

#include <cmath>

#include "core/check.h"
#include "models/families.h"
#include "models/per_layer.h"

namespace mlxlm::models {

namespace {

// Streams are [1, N, S, hidden].
mx::array stream(const mx::array& streams, int index) {
  auto start = mx::Shape{0, 0, index, 0};
  auto stop = streams.shape();
  stop[2] = index + 1;
  return mx::squeeze(mx::slice(streams, start, stop), 2);
}

class AltUp {
 public:
  AltUp(const Fields& f, const Common& c, const Scope& s)
      : count_(f.range("altup_num_inputs", 4, 2, 64)),
        active_(f.range("altup_active_idx", 0, 0, count_ - 1)),
        width_(1 / static_cast<float>(c.hidden)),
        norm_(rms_norm(s, "router_norm", c.hidden, c.eps)),
        router_(s.linear("modality_router", c.hidden, count_)),
        prediction_(s.linear("prediction_coefs", count_, count_ * count_)),
        correction_(s.linear("correction_coefs", count_, count_)) {
    auto scale = s.param("correct_output_scale", {c.hidden});
    if (f.opt("altup_correct_scale", true)) scale_ = scale;
  }

  mx::array predict(const mx::array& streams) const {
    int n = streams.shape(1);
    auto mix = mx::reshape(
        prediction_(routed(active(streams))), {1, n, count_, count_});
    return streams + mx::matmul(mix, streams);
  }
  mx::array correct(const mx::array& predicted, const mx::array& activated)
      const {
    auto change = activated - active(predicted);
    auto share = correction_(routed(activated));
    share = share + mx::array(1.0f, share.dtype()); // [1, N, S]
    return predicted + mx::expand_dims(change, 2) * mx::expand_dims(share, -1);
  }
  mx::array active(const mx::array& streams) const {
    return stream(streams, active_);
  }
  // The active stream as the layer's own input sees it.
  mx::array output(const mx::array& streams) const {
    auto x = active(streams);
    return scale_ ? x * **scale_ : x;
  }
  // x [1, N, hidden] to all streams but the first.
  mx::array to_others(const mx::array& x) const {
    auto first = mx::equal(mx::arange(count_), mx::array(0));
    auto kept = mx::reshape(
        mx::where(first, mx::array(0.0f), mx::array(1.0f)), {1, 1, -1, 1});
    return mx::expand_dims(x, 2) * mx::astype(kept, x.dtype());
  }

 private:
  mx::array routed(const mx::array& x) const {
    return mx::tanh(router_(norm_(x) * mx::array(width_, x.dtype())));
  }

  int count_, active_;
  float width_;
  Norm norm_;
  Linear router_, prediction_, correction_;
  std::optional<Param> scale_;
};

// Keeps only what exceeds the mean by a multiple of the deviation, so that
// about `sparsity` of a normal distribution falls away.
class SparseMlp : public Block {
 public:
  SparseMlp(const Scope& s, const MlpOptions& o, float sparsity)
      : act_(o.act),
        deviations_(
            std::sqrt(2.0f) *
            mx::erfinv(mx::array(2 * sparsity - 1)).item<float>()),
        in_{s.linear(o.gate, o.hidden, o.inner),
            s.linear(o.up, o.hidden, o.inner)},
        down_(s.linear(o.down, o.inner, o.hidden)) {}

  mx::array operator()(const mx::array& x, const Step&, LayerCache*)
      const override {
    auto y = linears(x, in_);
    auto cut = mx::mean(y[0], -1, true) +
        mx::std(y[0], -1, true) * mx::array(deviations_, x.dtype());
    auto kept = mx::maximum(y[0] - cut, mx::array(0, x.dtype()));
    return down_(gate_up(act_, kept, y[1]));
  }

 private:
  Activation act_;
  float deviations_;
  std::vector<Linear> in_;
  Linear down_;
};

// One value a layer from a list, or one for all.
template <typename T>
T layer_value(const Fields& f, std::string_view key, int depth, int index) {
  if (!f.req<Json>(key).is_array()) return f.req<T>(key);
  auto values = f.req<std::vector<T>>(key);
  if (static_cast<int>(values.size()) != depth)
    fail(
        ErrorKind::config,
        f.where(key),
        "expected {} values, one a layer, found {}",
        depth,
        values.size());
  return values[index];
}

BlockPtr mlp(const Fields& f, const Common& c, int index, const Scope& s) {
  constexpr auto widths = "intermediate_size";
  constexpr auto pattern = "activation_sparsity_pattern";
  auto m = c.mlp();
  m.inner = layer_value<int>(f, widths, c.depth, index);
  if (m.inner < 1)
    fail(
        ErrorKind::config,
        f.where(widths),
        "expected positive integers, found {}",
        m.inner);
  float sparsity = f.has(pattern)
      ? layer_value<float>(f, pattern, c.depth, index)
      : (c.depth > 10 && index < 10 ? 0.95f : 0.0f);
  if (!(sparsity >= 0 && sparsity < 1))
    fail(
        ErrorKind::config,
        f.where(pattern),
        "expected numbers in [0, 1), found {}",
        sparsity);
  if (sparsity == 0) return gated_mlp(s, m);
  return std::make_unique<SparseMlp>(s, m, sparsity);
}

class Layer3n {
 public:
  Layer3n(
      const Fields& f,
      const Common& c,
      int index,
      const Scope& s,
      const AttentionOptions& a)
      : altup_(f, c, s / "altup"),
        attention_(attention(s / "self_attn", a)),
        mlp_(mlp(f, c, index, s / "mlp")),
        low_(s.linear("laurel.linear_left", c.hidden, rank(f))),
        high_(s.linear("laurel.linear_right", rank(f), c.hidden)),
        input_(f, c, s, index) {
    auto norm = [&](const char* name) {
      return rms_norm(s, name, c.hidden, c.eps);
    };
    before_attention_ = norm("input_layernorm");
    behind_attention_ = norm("post_attention_layernorm");
    before_mlp_ = norm("pre_feedforward_layernorm");
    behind_mlp_ = norm("post_feedforward_layernorm");
    laurel_norm_ = norm("laurel.post_laurel_norm");
  }

  mx::array operator()(
      const mx::array& streams,
      const mx::array& inputs,
      const Step& step,
      LayerCache& cache) const {
    auto predicted = altup_.predict(streams);
    auto h = altup_.active(predicted);
    auto x = before_attention_(h);
    auto laurel = x + laurel_norm_(high_(low_(x)));
    h = h + behind_attention_((*attention_)(x, step, &cache));
    h = (h + laurel) * mx::array(std::sqrt(0.5f), h.dtype());
    h = h + behind_mlp_((*mlp_)(before_mlp_(h), step, nullptr));
    auto corrected = altup_.correct(predicted, h);
    return corrected +
        altup_.to_others(input_(altup_.output(corrected), inputs));
  }
  CacheSpec cache() const {
    return attention_->cache();
  }

 private:
  static int rank(const Fields& f) {
    return f.range("laurel_rank", 64, 1, 1 << 16);
  }

  AltUp altup_;
  BlockPtr attention_, mlp_;
  Linear low_, high_;
  PerLayerGate input_;
  Norm before_attention_, behind_attention_, before_mlp_, behind_mlp_,
      laurel_norm_;
};

class Gemma3n : public Model {
 public:
  Gemma3n(
      const Fields& f,
      const Common& c,
      const Scope& w,
      std::vector<Layer3n> layers,
      int own)
      : c_(c),
        own_(own),
        softcap_(cap_field(f, "final_logit_softcapping", 30)),
        layers_(std::move(layers)),
        embed_(w.embedding("model.embed_tokens", c.vocab, c.hidden)),
        head_(c.tied ? embed_ : w.linear("lm_head", c.hidden, c.vocab)),
        inputs_(f, c, w),
        norm_(rms_norm(w, "model.norm", c.hidden, c.eps)),
        type_(w.compute_type()) {
    int others = f.range("altup_num_inputs", 4, 2, 64) - 1;
    for (int i = 0; i < others; ++i) {
      spread_.push_back((w / "model.altup_projections")
                            .linear(std::to_string(i), c.hidden, c.hidden));
      gather_.push_back((w / "model.altup_unembed_projections")
                            .linear(std::to_string(i), c.hidden, c.hidden));
    }
  }

  mx::array operator()(
      const Input& input,
      const Step& step,
      Memory& memory,
      const std::vector<int>& rows) const override {
    auto h = input.embeddings ? *input.embeddings
                              : embed_.kernel().rows(input.tokens, type_);
    h = h * mx::array(std::sqrt(static_cast<float>(c_.hidden)), h.dtype());
    auto inputs = inputs_(input, h);
    std::vector<mx::array> all = {h};
    for (const auto& p : spread_)
      all.push_back(as_large_as(h, p(h)));
    auto streams = mx::stack(all, 2);
    // Without rows, layers that store nothing need not run.
    int depth = rows.empty() ? own_ : static_cast<int>(layers_.size());
    for (int i = 0; i < depth; ++i)
      streams = layers_[i](streams, inputs, step, memory.layer(i));
    return logits(take_rows(streams, rows), static_cast<int>(rows.size()));
  }
  std::vector<CacheSpec> caches() const override {
    std::vector<CacheSpec> out;
    for (const auto& l : layers_)
      out.push_back(l.cache());
    return out;
  }
  int vocab() const override {
    return c_.vocab;
  }

 private:
  // x with the root mean square of `like`, row by row.
  static mx::array as_large_as(const mx::array& like, const mx::array& x) {
    auto size = [](const mx::array& v) {
      return mx::mean(mx::square(v), -1, true);
    };
    auto least = mx::maximum(size(x), mx::array(1e-5f, x.dtype()));
    return x * mx::sqrt(size(like)) / mx::sqrt(least);
  }

  mx::array logits(const mx::array& streams, int rows) const {
    if (rows == 0)
      return mx::astype(
          mx::reshape(stream(streams, 0), {0, c_.vocab}), mx::float32);
    auto first = stream(streams, 0), sum = first;
    for (std::size_t i = 0; i < gather_.size(); ++i) {
      auto own = gather_[i](stream(streams, static_cast<int>(i) + 1));
      sum = sum + as_large_as(first, own);
    }
    auto mean = sum * mx::array(1 / (1.0f + gather_.size()), sum.dtype());
    auto y = mx::astype(
        mx::reshape(head_(norm_(mean)), {rows, c_.vocab}), mx::float32);
    if (softcap_ <= 0) return y;
    auto cap = mx::array(softcap_);
    return cap * mx::tanh(y / cap);
  }

  Common c_;
  int own_; // layers with keys and values of their own
  float softcap_;
  std::vector<Layer3n> layers_;
  Linear embed_, head_;
  PerLayerInputs inputs_;
  Norm norm_;
  mx::Dtype type_;
  std::vector<Linear> spread_, gather_; // to and from the other streams
};

int shared_layers(const Fields& f) {
  int depth = f.range("num_hidden_layers", 1, 4096);
  return f.range("num_kv_shared_layers", std::min(15, depth - 1), 0, depth - 1);
}

} // namespace

ModelPtr gemma3n(const Fields& config, const Scope& w) {
  auto f = with_defaults(
      config,
      {{"vocab_size", 262400},
       {"num_attention_heads", 8},
       {"num_key_value_heads", 2},
       {"head_dim", 256},
       {"sliding_window", 512},
       {"intermediate_size", 16384}});
  auto c = Common::parse(f.with({{"intermediate_size", 1}}), true);
  c.act = activation(f, "hidden_activation", "gelu_pytorch_tanh");
  auto types = layer_types(
      f, c.depth, {"sliding_attention", "full_attention"}, [](int i) {
        return (i + 1) % 5 ? "sliding_attention" : "full_attention";
      });
  int shared = shared_layers(f);
  auto source = borrowed_from(f, types, shared);
  auto global = Rope::from(
      f, c.head_dim, {.layer_type = "full_attention", .theta = 1000000});
  auto local = Rope::from(
      f,
      c.head_dim,
      {.layer_type = "sliding_attention",
       .theta_key = "rope_local_base_freq",
       .scaled = false});
  std::vector<Layer3n> layers;
  for (int i = 0; i < c.depth; ++i) {
    auto s = w / "model.layers" / i;
    auto a = c.attention();
    bool slides = types[i] == "sliding_attention";
    a.rope = slides ? local : global;
    a.window = slides ? f.range("sliding_window", 1, 1 << 24) : 0;
    a.source = source[i];
    a.bias = a.out_bias = bias_if(f.opt("attention_bias", false));
    a.scale = 1;
    a.q_norm = rms_norm(s / "self_attn", "q_norm", c.head_dim, c.eps);
    if (source[i] < 0)
      a.k_norm = rms_norm(s / "self_attn", "k_norm", c.head_dim, c.eps);
    a.on_v = rms_norm(c.eps);
    layers.emplace_back(f, c, i, s, a);
  }
  return std::make_unique<Gemma3n>(
      f, c, w, std::move(layers), c.depth - shared);
}

std::vector<Rule> gemma3n_rules(const Fields& f, const TensorSource&) {
  return drop_borrowed(f, shared_layers(f));
}

} // namespace mlxlm::models
