#include "nn/mla.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "nn/fused.h"

namespace mlxlm {

namespace {

// A matrix for every head: x [1, N, H, in] -> [1, N, H, out].
class PerHead {
 public:
  // Stacked in the checkpoint.
  explicit PerHead(Linear stacked, int heads)
      : stacked_(std::move(stacked)), heads_(heads) {}
  // w [H, out, in]
  explicit PerHead(const mx::array& w)
      : dense_(mx::swapaxes(w, 1, 2)), heads_(w.shape(0)) {}

  mx::array operator()(const mx::array& x) const {
    int n = x.shape(1);
    if (dense_) {
      auto by_head = mx::transpose(mx::squeeze(x, 0), {1, 0, 2});
      auto y = mx::matmul(by_head, mx::astype(*dense_, x.dtype()));
      return mx::expand_dims(mx::transpose(y, {1, 0, 2}), 0);
    }
    auto ids =
        mx::broadcast_to(mx::arange(0, heads_, 1, mx::uint32), {n, heads_});
    auto y = stacked_->kernel().gather(mx::squeeze(x, 0), ids);
    return mx::expand_dims(y, 0);
  }

 private:
  std::optional<Linear> stacked_;
  std::optional<mx::array> dense_;
  int heads_;
};

struct Absorbed {
  PerHead embed_q, unembed_out;
};

Absorbed absorbed(const Scope& s, const MlaOptions& o) {
  if (!s.has("kv_b_proj"))
    return {
        PerHead(
            s.linear("embed_q", o.nope_dim, o.kv_rank, {.experts = o.heads}),
            o.heads),
        PerHead(
            s.linear("unembed_out", o.kv_rank, o.v_dim, {.experts = o.heads}),
            o.heads)};
  int per_head = o.nope_dim + o.v_dim;
  auto kv_b = s.linear("kv_b_proj", o.kv_rank, o.heads * per_head);
  auto w = mx::reshape(
      kv_b.kernel().dense(s.compute_type()), {o.heads, per_head, o.kv_rank});
  auto parts = mx::split(w, mx::Shape{o.nope_dim}, 1);
  return {PerHead(mx::swapaxes(parts[0], 1, 2)), PerHead(parts[1])};
}

class Mla : public Block {
 public:
  Mla(const Scope& s, const MlaOptions& o)
      : o_(o),
        q_(s.linear(
            o.q_rank ? "q_b_proj" : "q_proj",
            o.q_rank ? o.q_rank : o.hidden,
            o.heads * (o.nope_dim + o.rope_dim),
            {.split = Split::out, .units = o.heads})),
        kv_a_(s.linear(
            "kv_a_proj_with_mqa",
            o.hidden,
            o.kv_rank + o.rope_dim,
            {.bias = o.bias})),
        kv_norm_(rms_norm(s, "kv_a_layernorm", o.kv_rank, o.eps)),
        absorbed_(absorbed(s, o)),
        out_(s.linear(
            o.o,
            o.heads * o.v_dim,
            o.hidden,
            {.bias = o.bias, .split = Split::in, .units = o.heads})) {
    if (o.q_rank) {
      q_a_ = s.linear("q_a_proj", o.hidden, o.q_rank, {.bias = o.bias});
      q_norm_ = rms_norm(s, "q_a_layernorm", o.q_rank, o.eps);
    }
    if (o.head_gate) gate_ = s.linear("g_proj", o.hidden, o.heads);
    if (o.indexer) indexer_.emplace(s / "indexer", *o.indexer);
  }

  mx::array operator()(const mx::array& x, const Step& step, LayerCache* cache)
      const override {
    auto p = prepared(x, step);
    return finish(
        cache->attend_latent(step, p.wide, p.row, {.scale = o_.scale}), x);
  }

  CacheSpec cache() const override {
    return LatentKv{o_.kv_rank, o_.rope_dim, o_.choice != nullptr};
  }

  std::vector<CacheSpec> caches() const override {
    if (!indexer_) return {cache()};
    return {cache(), indexer_->cache()};
  }

  mx::array run(
      const mx::array& x,
      const Step& step,
      const std::vector<LayerCache*>& caches) const override {
    if (!o_.choice) return (*this)(x, step, caches[0]);
    auto p = prepared(x, step);
    std::vector<mx::array> kept;
    if (indexer_)
      kept.push_back(caches[1]->keep(step, indexer_->keys(x, step)));
    auto& choice = *o_.choice;
    if (indexer_) choice = indexer_->choose(x, p.q_low, step, *caches[1]);
    const auto& t = choice.tokens;
    bool all = std::none_of(
        t.begin(), t.end(), [](const auto& ids) { return ids.has_value(); });
    if (!all) kept.push_back(caches[0]->keep(step, p.row));
    auto y = all
        ? caches[0]->attend_latent(step, p.wide, p.row, {.scale = o_.scale})
        : sparse(p.wide, step, *caches[0]);
    y = finish(y, x);
    return kept.empty() ? y : mx::depends({y}, kept)[0];
  }

 private:
  struct Prepared {
    mx::array wide; // queries in the latent space [1, N, H, rank + rope]
    mx::array row; // what is remembered [1, N, rank + rope]
    mx::array q_low; // what the queries were made of
  };

  Prepared prepared(const mx::array& x, const Step& step) const {
    int n = x.shape(1);
    auto [q, kv, q_low] = projections(x);
    q = mx::reshape(q, {1, n, o_.heads, o_.nope_dim + o_.rope_dim});
    if (o_.temperature != 0) {
      auto t = query_temperature(step, o_.temperature, o_.temperature_length);
      q = q * mx::astype(t, q.dtype());
    }
    auto q_parts = mx::split(q, mx::Shape{o_.nope_dim}, -1);
    auto kv_parts = mx::split(kv, mx::Shape{o_.kv_rank}, -1);
    auto latent = kv_norm_(kv_parts[0]);
    if (o_.latent_scale != 1)
      latent = latent * mx::array(o_.latent_scale, latent.dtype());
    auto k_pe = mx::reshape(kv_parts[1], {1, n, 1, o_.rope_dim});
    auto q_pe = q_parts[1];
    if (o_.rope) {
      auto both = o_.rope({{q_pe, o_.rope_dim}, {k_pe, o_.rope_dim}}, step);
      q_pe = both[0];
      k_pe = both[1];
    }
    auto row =
        mx::concatenate({latent, mx::reshape(k_pe, {1, n, o_.rope_dim})}, -1);
    auto wide = mx::concatenate({absorbed_.embed_q(q_parts[0]), q_pe}, -1);
    return {wide, row, q_low};
  }

  // x: the block's input.
  mx::array finish(const mx::array& y, const mx::array& x) const {
    auto heads = absorbed_.unembed_out(y);
    if (gate_) heads = heads * mx::expand_dims(mx::sigmoid((*gate_)(x)), -1);
    return out_(mx::reshape(heads, {1, y.shape(1), o_.heads * o_.v_dim}));
  }

  // Every segment for itself, with what was chosen for it.
  mx::array sparse(const mx::array& q, const Step& step, LayerCache& cache)
      const {
    std::vector<mx::array> out;
    const auto& segments = step.segments();
    for (std::size_t i = 0; i < segments.size(); ++i) {
      const auto& s = segments[i];
      auto mine = mx::slice(
          q,
          {0, s.first, 0, 0},
          {1, s.first + s.count, q.shape(2), q.shape(3)});
      out.push_back(attend_chosen(
          mx::squeeze(mine, 0),
          cache.kept(step, static_cast<int>(i)),
          o_.choice->tokens.at(i),
          s.offset,
          o_.kv_rank,
          o_.scale));
    }
    return mx::expand_dims(mx::concatenate(std::move(out), 0), 0);
  }

  std::tuple<mx::array, mx::array, mx::array> projections(
      const mx::array& x) const {
    auto both = linears(x, {q_a_ ? *q_a_ : q_, kv_a_});
    if (!q_a_) return {both[0], both[1], both[0]};
    auto low = q_norm_(both[0]);
    return {q_(low), both[1], low};
  }

  MlaOptions o_;
  Linear q_, kv_a_;
  Norm kv_norm_;
  Absorbed absorbed_;
  Linear out_;
  std::optional<Linear> q_a_, gate_;
  Norm q_norm_;
  std::optional<Indexer> indexer_;
};

} // namespace

BlockPtr mla(const Scope& s, const MlaOptions& options) {
  auto o = options;
  if (o.scale == 0)
    o.scale = 1 / std::sqrt(static_cast<float>(o.nope_dim + o.rope_dim));
  return std::make_unique<Mla>(s, o);
}

} // namespace mlxlm
