// RWKV-7: no attention; a generalised delta rule whose decay, rate and gate
// come from low-rank projections of each token mixed with the one before. All
// layers mix their values with the first one's, hence a forward of its own.
#include <mlx/ops.h>

#include <cmath>

#include "core/check.h"
#include "models/common.h"
#include "models/families.h"
#include "models/hybrid.h"
#include "nn/recurrent.h"
#include "runtime/kernels/ops.h"
#include "runtime/kernels/scan.h"

namespace mlxlm::models {

namespace {

struct RwkvSizes {
  int hidden, heads, head_dim, inner;
  int decay_rank, value_rank, rate_rank, gate_rank;
};

mx::array wide(const mx::array& x) {
  return mx::astype(x, mx::float32);
}

// Every token's predecessor, the last of the segment before in state `index`.
mx::array shifted(
    const mx::array& x,
    const std::vector<SegmentBatch>& groups,
    LayerCache& cache,
    int index) {
  std::vector<mx::array> parts;
  for (const auto& g : groups) {
    auto now = g.of(x); // [B, L, hidden]
    auto past =
        mx::astype(mx::expand_dims(g.state(cache, index), 1), x.dtype());
    auto all = mx::concatenate({past, now}, 1);
    int width = x.shape(2);
    parts.push_back(mx::slice(all, {0, 0, 0}, {g.size(), g.count, width}));
    auto last = mx::slice(all, {0, g.count, 0}, {g.size(), g.count + 1, width});
    g.set_state(cache, index, mx::contiguous(mx::squeeze(last, 1)));
  }
  return in_order(groups, parts);
}

// up(act(down(x)))
class LowRank {
 public:
  enum class Act { none, tanh, sigmoid };
  LowRank(const Scope& s, int hidden, int rank, Act act, Bias bias)
      : down_(s.linear("lora.0", hidden, rank)),
        up_(s.linear("lora.2", rank, hidden, {.bias = bias})),
        act_(act) {}
  mx::array operator()(const mx::array& x) const {
    auto y = down_(x);
    if (act_ == Act::tanh) y = mx::tanh(y);
    if (act_ == Act::sigmoid) y = mx::sigmoid(y);
    return up_(y);
  }

 private:
  Linear down_, up_;
  Act act_;
};

class TimeMixing {
 public:
  TimeMixing(const Scope& s, const RwkvSizes& o, bool first)
      : o_(o),
        r_(s.linear("r_proj", o.hidden, o.hidden)),
        k_(s.linear("k_proj", o.hidden, o.hidden)),
        v_(s.linear("v_proj", o.hidden, o.hidden)),
        out_(s.linear("o_proj", o.hidden, o.hidden)),
        decay_(
            s / "w_lora",
            o.hidden,
            o.decay_rank,
            LowRank::Act::tanh,
            Bias::required),
        rate_(
            s / "a_lora",
            o.hidden,
            o.rate_rank,
            LowRank::Act::none,
            Bias::required),
        gate_(
            s / "g_lora",
            o.hidden,
            o.gate_rank,
            LowRank::Act::sigmoid,
            Bias::none),
        k_k_(s.param("k_k", {o.hidden})),
        k_a_(s.param("k_a", {o.hidden})),
        r_k_(s.param("r_k", {o.heads, o.head_dim})),
        norm_(s.param("g_norm.weight", {o.hidden})),
        norm_bias_(s.param("g_norm.bias", {o.hidden})) {
    if (!first)
      value_.emplace(
          s / "v_lora",
          o.hidden,
          o.value_rank,
          LowRank::Act::none,
          Bias::required);
    for (auto name : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g"})
      mix_.push_back(s.param(name, {1, 1, o.hidden}));
  }

  // `first`: the first layer's values, which it sets.
  mx::array operator()(
      const mx::array& x,
      const Step& step,
      LayerCache& cache,
      std::optional<mx::array>& first) const {
    auto groups = batches(step);
    auto change = shifted(x, groups, cache, 0) - x;
    auto mixed = [&](int i) { return x + change * *mix_[i]; };
    auto r = r_(mixed(0)), k = k_(mixed(2)), v = v_(mixed(3));
    auto rate = mx::sigmoid(rate_(mixed(4)));
    auto gate = gate_(mixed(5));
    if (value_)
      v = v + (*first - v) * mx::sigmoid((*value_)(mixed(3)));
    else
      first = v;
    auto decay =
        mx::exp(mx::array(-0.606531f) * mx::sigmoid(wide(decay_(mixed(1)))));
    auto key = unit(k * *k_k_);
    k = k *
        (mx::array(1, k.dtype()) + (rate - mx::array(1, k.dtype())) * *k_a_);
    std::vector<mx::array> inputs = {
        by_head(r),
        by_head(decay),
        by_head(k),
        by_head(v),
        mx::negative(key),
        key * by_head(rate)};
    auto y = scanned(inputs, groups, cache); // [1, N, H, D]
    y = normed(y) +
        mx::sum(inputs[0] * inputs[2] * wide(*r_k_), -1, true) * inputs[3];
    return out_(mx::astype(mx::reshape(y, x.shape()), x.dtype()) * gate);
  }

  CacheSpec cache(mx::Dtype type) const {
    Recurrent out;
    out.states.push_back({{o_.hidden}, type});
    out.states.push_back({{o_.heads, o_.head_dim, o_.head_dim}, mx::float32});
    return out;
  }

 private:
  mx::array by_head(const mx::array& x) const {
    return mx::reshape(wide(x), {1, x.shape(1), o_.heads, o_.head_dim});
  }

  // Each head over its length.
  mx::array unit(const mx::array& x) const {
    auto heads = by_head(x);
    auto length = mx::sqrt(mx::sum(mx::square(heads), -1, true));
    return heads / mx::maximum(length, mx::array(1e-7f));
  }

  mx::array scanned(
      const std::vector<mx::array>& in,
      const std::vector<SegmentBatch>& groups,
      LayerCache& cache) const {
    std::vector<mx::array> results;
    for (const auto& g : groups) {
      auto [y, state] = kernels::wkv7(
          g.of(in[0]),
          g.of(in[1]),
          g.of(in[2]),
          g.of(in[3]),
          g.of(in[4]),
          g.of(in[5]),
          g.state(cache, 1));
      g.set_state(cache, 1, state);
      results.push_back(y);
    }
    return in_order(groups, results);
  }

  mx::array normed(const mx::array& y) const {
    auto z = kernels::layer_norm(y, std::nullopt, std::nullopt, 64e-5f);
    mx::Shape shape{o_.heads, o_.head_dim};
    return z * mx::reshape(wide(*norm_), shape) +
        mx::reshape(wide(*norm_bias_), shape);
  }

  RwkvSizes o_;
  Linear r_, k_, v_, out_;
  LowRank decay_, rate_, gate_;
  std::optional<LowRank> value_;
  Param k_k_, k_a_, r_k_, norm_, norm_bias_;
  std::vector<Param> mix_; // of the six inputs, how much comes from before
};

class ChannelMixing {
 public:
  ChannelMixing(const Scope& s, const RwkvSizes& o)
      : key_(s.linear("key", o.hidden, o.inner)),
        value_(s.linear("value", o.inner, o.hidden)),
        mix_(s.param("x_k", {o.hidden})) {}

  mx::array operator()(const mx::array& x, const Step& step, LayerCache& cache)
      const {
    auto change = shifted(x, batches(step), cache, 0) - x;
    return value_(apply(Activation::relu2, key_(x + change * *mix_)));
  }

 private:
  Linear key_, value_;
  Param mix_;
};

struct MixingLayer {
  Norm time_norm;
  TimeMixing time;
  Norm channel_norm;
  ChannelMixing channel;
};

class Rwkv7 : public Model {
 public:
  Rwkv7(const Scope& w, const Common& c, const RwkvSizes& o)
      : c_(c),
        embed_(w.embedding("model.embeddings", c.vocab, c.hidden)),
        pre_norm_(norm(w / "model.layers.0", "pre_norm")),
        type_(w.compute_type()) {
    for (int i = 0; i < c.depth; ++i) {
      auto s = w / "model.layers" / i;
      layers_.push_back(
          {norm(s, "attn_norm"),
           TimeMixing(s / "attn", o, i == 0),
           norm(s, "ffn_norm"),
           ChannelMixing(s / "ffn", o)});
    }
    norm_ = norm(w / "model", "norm");
    head_ = c.tied ? embed_ : w.linear("lm_head", c.hidden, c.vocab);
  }

  mx::array operator()(
      const Input& input,
      const Step& step,
      Memory& memory,
      const std::vector<int>& rows) const override {
    auto h = input.embeddings ? *input.embeddings
                              : embed_.kernel().rows(input.tokens, type_);
    h = pre_norm_(h);
    std::optional<mx::array> first;
    int slot = 0;
    for (const auto& l : layers_) {
      h = h + l.time(l.time_norm(h), step, memory.layer(slot++), first);
      h = h + l.channel(l.channel_norm(h), step, memory.layer(slot++));
    }
    h = take_rows(h, rows);
    int count = static_cast<int>(rows.size());
    auto y = count ? (*head_)(norm_(h)) : h;
    return mx::astype(mx::reshape(y, {count, c_.vocab}), mx::float32);
  }

  std::vector<CacheSpec> caches() const override {
    std::vector<CacheSpec> out;
    for (const auto& l : layers_) {
      out.push_back(l.time.cache(type_));
      out.push_back(Recurrent{{{{c_.hidden}, type_}}});
    }
    return out;
  }

  int vocab() const override {
    return c_.vocab;
  }

 private:
  Norm norm(const Scope& s, const char* name) const {
    return layer_norm(s, name, c_.hidden, c_.eps, Bias::optional);
  }

  Common c_;
  Linear embed_;
  Norm pre_norm_, norm_;
  std::vector<MixingLayer> layers_;
  std::optional<Linear> head_;
  mx::Dtype type_;
};

} // namespace

ModelPtr rwkv7(const Fields& f, const Scope& w) {
  RwkvSizes o;
  o.head_dim = f.range("head_dim", 64, 1, 1 << 13);
  int heads = f.range("hidden_size", 1, 1 << 20) / o.head_dim;
  auto c = Common::parse(f.with({{"num_attention_heads", heads}}));
  c.eps = f.opt("norm_eps", 1e-5f);
  o.hidden = c.hidden;
  o.heads = heads;
  o.inner = c.inner ? c.inner : 4 * c.hidden;
  o.decay_rank = size_field(f, "decay_low_rank_dim");
  o.value_rank = size_field(f, "v_low_rank_dim");
  o.rate_rank = size_field(f, "a_low_rank_dim");
  o.gate_rank = size_field(f, "gate_low_rank_dim");
  if (o.heads * o.head_dim != c.hidden)
    fail(
        ErrorKind::config,
        f.where("head_dim"),
        "expected a divisor of hidden_size {}, found {}",
        c.hidden,
        o.head_dim);
  return std::make_unique<Rwkv7>(w, c, o);
}

std::vector<Rule> rwkv7_rules(const Fields&, const TensorSource& source) {
  std::vector<Rule> rules;
  for (auto name : {"k_k", "k_a", "g_norm.weight", "g_norm.bias"})
    flatten(rules, source, std::string("*.attn.") + name);
  return rules;
}

} // namespace mlxlm::models
