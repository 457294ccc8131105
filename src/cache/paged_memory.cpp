// The ledger of pages and states, and the memory made of it; see
// paged_memory.h.
#include "cache/paged_memory.h"

#include <algorithm>
#include <utility>

#include "cache/paged_layers.h"
#include "cache/pass_tables.h"
#include "core/check.h"

namespace mlxlm::cache {

namespace {

class PagedMemory final : public Memory {
 public:
  PagedMemory(const std::vector<CacheSpec>& specs, const MemoryOptions& options)
      : shared_(std::make_shared<Shared>(specs, options)) {
    for (auto& layer : shared_->layout.layers)
      layers_.push_back(make_layer(*shared_, layer));
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
