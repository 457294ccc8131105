// A sequence taken apart and put together again; see parts.h.
#include <mlx/transforms.h>

#include <algorithm>
#include <map>

#include "cache/page_counts.h"
#include "cache/sequence.h"
#include "core/check.h"

namespace mlxlm {
namespace cache {
namespace {

// Holds a page as a table does.
struct PagePart final : KeptPart {
  PagePart(PagePtr held, std::shared_ptr<PagePool> from)
      : KeptPart(from->page_bytes()),
        page(std::move(held)),
        pool(std::move(from)) {
    ++page->owners;
  }
  ~PagePart() override {
    pool->drop(*page);
  }
  PagePtr page;
  std::shared_ptr<PagePool> pool;
};

PagePtr page_in(const KeptPtr& part) {
  return part ? static_cast<const PagePart&>(*part).page : nullptr;
}

// The pages of one table.
std::vector<PagePtr> pages_of(
    std::span<const PageColumn> columns,
    std::size_t table) {
  std::vector<PagePtr> out;
  out.reserve(columns.size());
  for (auto& column : columns)
    out.push_back(page_in(column[table]));
  return out;
}

Sequence& known(SequenceMemory& sequence) {
  auto* mine = dynamic_cast<Sequence*>(&sequence);
  MLXLM_CHECK(mine, "a sequence of a paged memory");
  return *mine;
}

// The first page from which on all are there.
int passed_in(const std::vector<PagePtr>& pages) {
  auto gap = std::find(pages.rbegin(), pages.rend(), nullptr);
  return int(pages.rend() - gap);
}

} // namespace

// Whoever reads the pages next does not know what this sequence waits for.
std::vector<PageColumn> Sequence::kept_pages(int tokens) {
  MLXLM_CHECK(begun_ < 0, "parts inside begin");
  MLXLM_CHECK(tokens <= length_, "pages of tokens that are remembered");
  std::vector<mx::array> open;
  for (auto& group : written_) {
    for (auto& x : group) {
      if (x && x->status() == mx::array::Status::unscheduled)
        open.push_back(*x);
    }
  }
  if (!open.empty()) mx::async_eval(open);
  int page_tokens = shared_->options.page_tokens;
  std::vector<PageColumn> out((tokens + page_tokens - 1) / page_tokens);
  for (auto& table : tables_) {
    auto& pages = table.pages()->pages;
    for (std::size_t i = 0; i < out.size(); ++i) {
      auto& page = pages[i];
      out[i].push_back(
          page ? std::make_shared<PagePart>(page, table.pool_of(*page))
               : nullptr);
    }
  }
  return out;
}

std::vector<std::pair<int, KeptPtr>> Sequence::kept_states() const {
  std::vector<std::pair<int, KeptPtr>> out;
  out.reserve(checkpoints_.size());
  for (auto& checkpoint : checkpoints_)
    out.emplace_back(checkpoint->length, checkpoint);
  return out;
}

void Sequence::share(std::span<const PageColumn> pages) {
  MLXLM_CHECK(begun_ < 0, "parts inside begin");
  auto whole = std::size_t(length_ / shared_->options.page_tokens);
  pages = pages.first(std::min(pages.size(), whole));
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    tables_[i].exchange(pages_of(pages, i));
  }
}

void Sequence::adopt(
    const std::vector<PageColumn>& pages,
    int length,
    const KeptPtr& state) {
  MLXLM_CHECK(length_ == 0 && begun_ < 0, "only a new sequence takes over");
  MLXLM_CHECK(
      length > 0 && bool(state) == !states_.empty(),
      "states go with the pages");
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    auto list = pages_of(pages, i);
    int passed = passed_in(list);
    tables_[i].adopt(std::move(list), passed);
  }
  if (state) {
    auto kept = std::static_pointer_cast<const Checkpoint>(state);
    MLXLM_CHECK(kept->length == length, "states of another place");
    states_ = kept->states;
    checkpoints_ = {std::move(kept)};
  }
  length_ = length;
  auto& storage = shared_->options.storage;
  bool packed = storage.packs() && length_ >= storage.start &&
      std::all_of(tables_.begin(), tables_.end(), [](auto& table) {
                  return table.all_packed();
                });
  if (packed) pack(); // copies nothing
}

} // namespace cache

PartShape part_shape(Memory& memory) {
  auto sequence = memory.sequence();
  auto& shared = cache::known(*sequence).shared();
  PartShape shape;
  shape.page_tokens = shared.options.page_tokens;
  shape.max_bytes = shared.options.max_bytes;
  for (auto& group : shared.layout.groups)
    shape.groups.push_back({group.geometry.window, group.geometry.keep});
  shape.states = !shared.layout.recurrent.empty();
  return shape;
}

PageCounts count_pages(Memory& memory, std::span<const KeptPtr> kept) {
  auto sequence = memory.sequence();
  PageCounts counts;
  for (auto& pool : cache::known(*sequence).shared().pools) {
    counts.in_use += pool.plain->live();
    if (pool.packed) counts.in_use += pool.packed->live();
  }
  std::map<const cache::Page*, int> parts;
  for (auto& part : kept)
    ++parts[cache::page_in(part).get()];
  for (auto& [page, owners] : parts)
    counts.kept += page->owners == owners;
  counts.in_use -= counts.kept;
  return counts;
}

std::vector<PageColumn> kept_pages(SequenceMemory& sequence, int tokens) {
  return cache::known(sequence).kept_pages(tokens);
}

std::vector<std::pair<int, KeptPtr>> kept_states(SequenceMemory& sequence) {
  return cache::known(sequence).kept_states();
}

void share_pages(SequenceMemory& sequence, std::span<const PageColumn> pages) {
  cache::known(sequence).share(pages);
}

std::unique_ptr<SequenceMemory> sequence_from(
    Memory& memory,
    const std::vector<PageColumn>& pages,
    int length,
    const KeptPtr& state) {
  auto sequence = memory.sequence();
  cache::known(*sequence).adopt(pages, length, state);
  return sequence;
}

} // namespace mlxlm
