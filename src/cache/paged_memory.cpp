// Layer views over paged pools; see paged_memory.h.
#include "cache/paged_memory.h"

#include <mlx/device.h>
#include <mlx/ops.h>

#include <algorithm>
#include <utility>

#include "cache/sequence.h"
#include "core/check.h"

namespace mlxlm::cache {

namespace {

Sequence& sequence_of(const Shared& shared, const Segment& segment) {
  MLXLM_CHECK(segment.sequence, "a segment without a sequence");
  auto& sequence = static_cast<Sequence&>(*segment.sequence);
  MLXLM_CHECK(&sequence.shared() == &shared, "a sequence of another memory");
  return sequence;
}

class Tables final : public PassTables {
 public:
  Tables(const Shared& shared, const Step& step)
      : shared_(shared),
        segments_(step.paged_segments()),
        places_(shared.layout.recurrent.size()) {
    for (std::size_t i = 0; i < shared.layout.groups.size(); ++i) {
      std::vector<View> views;
      for (auto& segment : step.paged_segments())
        views.push_back(sequence_of(shared, segment).view(int(i), segment));
      groups_.emplace_back(std::move(views));
    }
  }

  const GroupViews& group(int index) const {
    return groups_[index];
  }

  // Where state `index` of recurrent layer `slot` is and will be.
  const kernels::StatePlacesPtr& places(int slot, int index) {
    if (places_[slot].empty()) advance(slot);
    return places_[slot][index];
  }

  void swap(PassTables& other) override {
    auto& theirs = static_cast<Tables&>(other);
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      groups_[i].views.swap(theirs.groups_[i].views);
      groups_[i].segments->swap(*theirs.groups_[i].segments);
    }
    for_places([&](auto slot, auto i) {
      places_[slot][i]->segments.swap(theirs.places_[slot][i]->segments);
    });
  }

  void prepare(const PassTables& recorded) override {
    auto& theirs = static_cast<const Tables&>(recorded);
    for (std::size_t slot = 0; slot < places_.size(); ++slot)
      if (!theirs.places_[slot].empty()) advance(int(slot));
  }

  void clear() override {
    for (auto& group : groups_) {
      group.views.clear();
      group.segments->clear();
    }
    for_places([&](auto slot, auto i) { places_[slot][i]->segments.clear(); });
  }

 private:
  template <typename Body>
  void for_places(const Body& body) {
    for (std::size_t slot = 0; slot < places_.size(); ++slot)
      for (std::size_t i = 0; i < places_[slot].size(); ++i)
        body(slot, i);
  }

  void advance(int slot) {
    auto& places = places_[slot];
    for (std::size_t i = 0; i < shared_.layout.recurrent[slot].states.size();
         ++i)
      places.push_back(std::make_shared<kernels::StatePlaces>());
    for (auto& segment : segments_) {
      auto& sequence = sequence_of(shared_, segment);
      auto& after = sequence.advance(slot);
      auto& before = sequence.before(slot);
      for (std::size_t i = 0; i < places.size(); ++i)
        places[i]->segments.push_back(
            {segment.first,
             segment.count,
             before[i].data<std::byte>(),
             const_cast<std::byte*>(after[i].data<std::byte>())});
    }
  }

  const Shared& shared_;
  std::vector<Segment> segments_;
  std::vector<GroupViews> groups_;
  // [recurrent layer][state], empty for those that were not asked for.
  std::vector<std::vector<kernels::StatePlacesPtr>> places_;
};

Tables& tables_of(const Shared& shared, const Step& step) {
  auto& tables = step.tables();
  if (!tables) tables = std::make_shared<Tables>(shared, step);
  return static_cast<Tables&>(*tables);
}

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

class PagedMemory final : public Memory {
 public:
  PagedMemory(const std::vector<CacheSpec>& specs, const MemoryOptions& options)
      : shared_(std::make_shared<Shared>(specs, options)) {
    for (auto& layer : shared_->layout.layers) {
      switch (layer.kind) {
        case Layer::Kind::none:
          layers_.push_back(std::make_unique<LayerCache>());
          break;
        case Layer::Kind::keys_values:
          layers_.push_back(std::make_unique<KvLayer>(*shared_, layer));
          break;
        case Layer::Kind::recurrent:
          layers_.push_back(
              std::make_unique<RecurrentLayer>(*shared_, layer.slot));
          break;
      }
    }
  }

  std::unique_ptr<SequenceMemory> sequence() override {
    return std::make_unique<Sequence>(shared_);
  }

  LayerCache& layer(int index) override {
    MLXLM_CHECK(index >= 0 && index < layers(), "no such layer");
    return *layers_[index];
  }

  int layers() const override {
    return int(layers_.size());
  }

  std::shared_ptr<PassTables> tables(const Step& step) override {
    tables_of(*shared_, step);
    return step.tables();
  }

  std::size_t bytes() const override {
    return shared_->bytes();
  }

  std::size_t bytes_per_token() const override {
    std::size_t total = 0;
    for (auto& pool : shared_->pools) {
      auto& last = pool.packed ? pool.packed : pool.plain;
      total += last->page_bytes() / shared_->options.page_tokens;
    }
    return total;
  }

  std::size_t bytes_for(int tokens) const override {
    return shared_->bytes_of_states() + shared_->bytes_of_pages(tokens);
  }

  int max_tokens() const override {
    auto limit = shared_->options.max_bytes, used = shared_->bytes();
    if (limit == 0) return unlimited;
    auto states = shared_->bytes_of_states();
    if (used + states >= limit) return 0;
    auto free = limit - used - states;
    int tokens = shared_->options.page_tokens;
    if (shared_->pools.empty()) return unlimited;
    // The most pages that fit.
    int low = 0, high = unlimited / tokens;
    while (low < high) {
      int pages = high - (high - low) / 2;
      if (shared_->bytes_of_pages(pages * tokens) <= free)
        low = pages;
      else
        high = pages - 1;
    }
    return low * tokens;
  }

  bool partial_commit() const override {
    return shared_->layout.recurrent.empty();
  }

  void release_unused() override {
    for (auto& pool : shared_->pools) {
      pool.plain->release_spares();
      if (pool.packed) pool.packed->release_spares();
    }
  }

 private:
  static constexpr int unlimited = 1 << 30;
  std::shared_ptr<Shared> shared_;
  std::vector<std::unique_ptr<LayerCache>> layers_;
};

} // namespace

Shared::Shared(const std::vector<CacheSpec>& specs, const MemoryOptions& o)
    : layout(specs), options(o) {
  MLXLM_CHECK(options.page_tokens > 0, "a page holds at least one token");
  layout.limit(options.max_tokens, options.keep_tokens);
  for (auto& group : layout.groups) {
    auto& g = group.geometry;
    if (!g.latent || g.exact || !options.storage.keys.sketch) continue;
    fail(
        ErrorKind::request,
        "kv scheme",
        "expected no sketch where one row is both key and value, found one");
  }
  bool raw = raw_pages(options);
  auto& storage = options.storage;
  StoreOptions of_store{
      options.dtype, options.page_tokens, raw, storage, layout.with_keys};
  for (auto& group : layout.groups) {
    auto& g = group.geometry;
    auto& store = stores.emplace_back(make_store(group, of_store));
    auto& pool = pools.emplace_back();
    pool.plain = std::make_shared<PagePool>(of_store.page_bytes(group), raw);
    if (of_store.packs(g)) {
      pool.packed =
          std::make_shared<PagePool>(store->packed_page_bytes(), raw, true);
    }
    pool.page_tokens = options.page_tokens;
    pool.plain_pages =
        (storage.plain_tokens + options.page_tokens - 1) / options.page_tokens;
    pool.window = g.window;
    pool.keep = g.keep;
  }
}

std::size_t Shared::bytes() const {
  auto total = state_bytes;
  for (auto& pool : pools) {
    total += pool.plain->owned() * pool.plain->page_bytes();
    if (pool.packed) total += pool.packed->owned() * pool.packed->page_bytes();
  }
  return total;
}

std::size_t Shared::bytes_of_pages(int tokens) const {
  auto page_tokens = std::size_t(options.page_tokens);
  auto pages_for = [&](int n) { return (n + page_tokens - 1) / page_tokens; };
  auto pages = pages_for(tokens), before = pages_for(options.storage.start);
  std::size_t total = 0;
  const auto all = pages;
  for (std::size_t i = 0; i < pools.size(); ++i) {
    auto& pool = pools[i];
    auto& g = layout.groups[i].geometry;
    // A window keeps a page more than it spans and begins anywhere in one.
    pages = g.window == 0
        ? all
        : std::min(all, pages_for(g.window) + pages_for(g.keep) + 2);
    auto plain = pool.plain->page_bytes();
    if (!pool.packed || tokens <= options.storage.start) {
      total += pages * plain;
      continue;
    }
    // While it is packed a sequence is there twice.
    auto packed = pool.packed->page_bytes();
    auto first = std::min<std::size_t>(pool.plain_pages, pages);
    auto at_end = first * plain + (pages - first) * packed;
    total += std::max(at_end, std::min(before, pages) * (plain + packed));
  }
  return total;
}

std::size_t Shared::bytes_of_states() const {
  return layout.state_bytes();
}

std::unique_ptr<Memory> make_paged_memory(
    const std::vector<CacheSpec>& specs,
    const MemoryOptions& options) {
  return std::make_unique<PagedMemory>(specs, options);
}

} // namespace mlxlm::cache
