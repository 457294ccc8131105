// Layers that attend to pages, and layers with recurrent states; see
// paged_layers.h.
#include "cache/paged_layers.h"

#include <mlx/device.h>
#include <mlx/ops.h>

#include "cache/pass_tables.h"
#include "core/check.h"

namespace mlxlm::cache {

namespace {

class KvLayer final : public LayerCache {
 public:
  KvLayer(Shared& shared, Layer layer) : shared_(shared), layer_(layer) {}

  mx::array attend(
      const Step& step,
      const mx::array& q,
      const mx::array& k,
      const mx::array& v,
      const AttendOptions& options) override {
    if (layer_.borrows || geometry().latent) {
      return LayerCache::attend(step, q, k, v, options);
    }
    return run(step, q, KeysValues{k, v}, options);
  }

  mx::array attend(
      const Step& step,
      const mx::array& q,
      const AttendOptions& options) override {
    return run(step, q, std::nullopt, options);
  }

  mx::array attend_latent(
      const Step& step,
      const mx::array& q,
      const mx::array& row,
      const AttendOptions& options) override {
    if (layer_.borrows || !geometry().latent || row.ndim() != 3) {
      return LayerCache::attend_latent(step, q, row, options);
    }
    auto k = mx::reshape(row, {1, row.shape(1), 1, row.shape(2)});
    return run(step, q, KeysValues{k, k}, options);
  }

  mx::array keep(const Step& step, const mx::array& row) override {
    auto& g = geometry();
    if (layer_.borrows || !g.readable) return LayerCache::keep(step, row);
    MLXLM_CHECK(
        row.shape() == (mx::Shape{1, step.tokens, g.k_dim}),
        "a row a token, as wide as the layer's");
    auto done = shared_.stores[layer_.group]->keep(
        layer_.slot,
        tables_of(shared_, step).group(layer_.group),
        row,
        pending(step));
    note(step, done);
    return std::move(done.out);
  }

  mx::array kept(const Step& step, int segment) override {
    if (!geometry().readable) return LayerCache::kept(step, segment);
    auto& views = tables_of(shared_, step).group(layer_.group).views;
    return shared_.stores[layer_.group]->kept(
        layer_.slot, views.at(segment), pending(step));
  }

 private:
  const Geometry& geometry() const {
    return shared_.layout.groups[layer_.group].geometry;
  }

  mx::array run(
      const Step& step,
      const mx::array& q,
      const std::optional<KeysValues>& rows,
      const AttendOptions& options) {
    check_attend(step, q, rows ? &rows->k : nullptr, rows ? &rows->v : nullptr);
    for (auto& segment : step.paged_segments())
      MLXLM_CHECK(!rows || !segment.looks, "a token that only looks");
    auto& views = tables_of(shared_, step).group(layer_.group);
    auto after = pending(step);
    auto done = shared_.stores[layer_.group]->attend(
        layer_.slot, views, q, rows, options, after);
    note(step, done);
    return std::move(done.out);
  }

  // Writes of this layer that have not been evaluated.
  std::vector<mx::array> pending(const Step& step) {
    std::vector<mx::array> after;
    for (auto& segment : step.paged_segments()) {
      auto& sequence = sequence_of(shared_, segment);
      auto& written = sequence.written(layer_.group, layer_.slot);
      bool pending =
          written && written->status() == mx::array::Status::unscheduled;
      if (pending) after.push_back(*written);
    }
    return after;
  }

  void note(const Step& step, const Attended& done) {
    if (done.written) {
      for (auto& segment : step.paged_segments()) {
        auto& sequence = sequence_of(shared_, segment);
        sequence.written(layer_.group, layer_.slot) = done.written;
      }
    }
  }

  // Shapes come from model code; a wrong one must not reach memory.
  void check_attend(
      const Step& step,
      const mx::array& q,
      const mx::array* k,
      const mx::array* v) const {
    auto& g = geometry();
    bool good = q.ndim() == 4 && q.shape(0) == 1 && q.shape(1) == step.tokens &&
        q.shape(2) > 0 && q.shape(2) % g.kv_heads == 0 && q.shape(3) == g.k_dim;
    if (k) {
      good =
          good && k->shape() == mx::Shape{1, step.tokens, g.kv_heads, g.k_dim};
    }
    if (v && !g.latent) {
      good =
          good && v->shape() == mx::Shape{1, step.tokens, g.kv_heads, g.v_dim};
    }
    if (!good) {
      fail(
          ErrorKind::internal,
          "attend",
          "expected q [1, {}, H, {}] with H a multiple of {} and keys and values "
          "of {} and {}, found q of {} dimensions and {} values",
          step.tokens,
          g.k_dim,
          g.kv_heads,
          g.k_dim,
          g.v_dim,
          q.ndim(),
          q.size());
    }
  }

  Shared& shared_;
  Layer layer_;
};

class RecurrentLayer final : public LayerCache {
 public:
  RecurrentLayer(Shared& shared, int slot) : shared_(shared), slot_(slot) {}

  mx::array state(const Segment& segment, int index) override {
    check(index);
    return sequence_of(shared_, segment).state(slot_, index);
  }

  void set_state(const Segment& segment, int index, mx::array value) override {
    check(index);
    auto& state = sequence_of(shared_, segment).state(slot_, index);
    MLXLM_CHECK(
        value.shape() == state.shape() && value.dtype() == state.dtype(),
        "a state keeps its shape and type");
    state = std::move(value);
  }

  kernels::StatePlacesPtr places(const Step& step, int index) override {
    check(index);
    if (mx::default_device() != mx::Device::cpu) return nullptr;
    return tables_of(shared_, step).places(slot_, index);
  }

 private:
  void check(int index) const {
    int states = int(shared_.layout.recurrent[slot_].states.size());
    MLXLM_CHECK(index >= 0 && index < states, "no such state");
  }

  Shared& shared_;
  int slot_;
};

} // namespace

std::unique_ptr<LayerCache> make_layer(Shared& shared, const Layer& layer) {
  switch (layer.kind) {
    case Layer::Kind::none:
      break;
    case Layer::Kind::keys_values:
      return std::make_unique<KvLayer>(shared, layer);
    case Layer::Kind::recurrent:
      return std::make_unique<RecurrentLayer>(shared, layer.slot);
  }
  return std::make_unique<LayerCache>();
}

} // namespace mlxlm::cache
