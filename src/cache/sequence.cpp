// Transactions of a sequence; see sequence.h.
#include "cache/sequence.h"

#include <mlx/allocator.h>
#include <mlx/ops.h>
#include <mlx/stream.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <limits>

#include "core/check.h"

namespace mlxlm::cache {

Sequence::Sequence(std::shared_ptr<Shared> shared)
    : shared_(std::move(shared)),
      states_(zero_states()),
      spare_(states_.size()) {
  auto& layout = shared_->layout;
  for (std::size_t i = 0; i < layout.groups.size(); ++i) {
    auto& group = layout.groups[i];
    tables_.emplace_back(shared_->pools[i]);
    written_.emplace_back(group.layers);
  }
  shared_->state_bytes += shared_->bytes_of_states();
}

Sequence::Sequence(const Sequence& other)
    : shared_(other.shared_),
      length_(other.length_),
      packed_(other.packed_),
      written_(other.written_),
      states_(other.states_),
      spare_(states_.size()),
      checkpoints_(other.checkpoints_) {
  for (auto& table : other.tables_)
    tables_.push_back(table.fork());
  shared_->state_bytes += shared_->bytes_of_states();
}

Sequence::~Sequence() {
  shared_->state_bytes -= shared_->bytes_of_states();
}

Sequence::Checkpoint::Checkpoint(
    std::shared_ptr<Shared> owner,
    int at,
    States values)
    : KeptPart(owner->bytes_of_states()),
      shared(std::move(owner)),
      length(at),
      states(std::move(values)) {
  shared->state_bytes += shared->bytes_of_states();
}

Sequence::Checkpoint::~Checkpoint() {
  shared->state_bytes -= shared->bytes_of_states();
}

Sequence::States Sequence::zero_states() const {
  States states;
  for (auto& layer : shared_->layout.recurrent) {
    auto& mine = states.emplace_back();
    for (auto& state : layer.states) {
      auto shape = state.shape;
      shape.insert(shape.begin(), 1);
      mine.push_back(mx::zeros(shape, state.dtype));
    }
  }
  return states;
}

void Sequence::check_room(int tokens, bool pack) const {
  std::size_t needed = 0;
  for (auto& table : tables_) {
    needed += table.missing(length_, tokens);
    if (pack) needed += table.packing_bytes();
  }
  auto used = shared_->bytes(), limit = shared_->options.max_bytes;
  if (needed == 0 || limit == 0 || used + needed <= limit) return;
  fail(
      ErrorKind::resource,
      "kv memory",
      "expected room for {} tokens after {} ({} bytes more), found {} of {} "
      "bytes in use",
      tokens,
      length_,
      needed,
      used,
      limit);
}

void Sequence::begin(int tokens) {
  MLXLM_CHECK(begun_ < 0, "begin inside begin");
  MLXLM_CHECK(tokens >= 0, "begin of a negative number of tokens");
  auto& storage = shared_->options.storage;
  bool now = storage.packs() && !packed_ && length_ >= storage.start;
  check_room(tokens, now);
  if (now) pack();
  try {
    for (std::size_t i = 0; i < tables_.size(); ++i) {
      copy_pages(int(i), tables_[i].reserve(length_, tokens));
    }
  } catch (...) {
    for (auto& table : tables_)
      table.shorten(length_);
    throw;
  }
  begun_ = tokens;
  states_at_begin_ = states_;
}

// Waits until all that a group's layers were to write is in its pages.
void Sequence::settle(int group) {
  for (auto& written : written_[group]) {
    if (written) mx::eval(*written);
  }
  if (raw_pages(shared_->options)) mx::synchronize();
}

void Sequence::copy_pages(
    int group,
    const std::vector<PageTable::Copy>& copies) {
  if (copies.empty()) return;
  settle(group);
  for (auto& copy : copies)
    shared_->stores[group]->copy(*copy.from, *copy.to);
}

// From now on this sequence's pages are packed, those it has included.
void Sequence::pack() {
  int tokens = shared_->options.page_tokens;
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    auto copies = tables_[i].pack();
    if (copies.empty()) continue;
    settle(int(i));
    auto& pages = tables_[i].pages()->pages;
    for (auto& copy : copies) {
      int count = std::min(tokens, length_ - copy.number * tokens);
      auto* before = copy.number > 0 ? pages[copy.number - 1].get() : nullptr;
      shared_->stores[i]->pack(before, *copy.from, *copy.to, count);
    }
  }
  packed_ = true;
}

namespace {

// Kernels follow pointers into them.
void settle_states(std::vector<mx::array>& states) {
  std::vector<mx::array> open;
  for (auto& x : states) {
    bool ready = x.status() != mx::array::Status::unscheduled &&
        x.flags().row_contiguous;
    if (ready) continue;
    x = mx::contiguous(x);
    open.push_back(x);
  }
  if (!open.empty()) mx::async_eval(open);
}

bool free_to_fill(const std::vector<mx::array>& states) {
  return !states.empty() &&
      std::all_of(states.begin(), states.end(), [](const mx::array& x) {
        return x.is_donatable();
      });
}

} // namespace

const std::vector<mx::array>& Sequence::advance(int slot) {
  MLXLM_CHECK(begun_ >= 0, "states advance between begin and commit");
  auto &now = states_[slot], &next = spare_[slot];
  settle_states(now);
  if (!free_to_fill(next)) {
    next.clear();
    for (auto& x : now)
      next.emplace_back(
          mx::allocator::malloc(x.nbytes()), x.shape(), x.dtype());
  }
  std::swap(now, next);
  return now;
}

void Sequence::end() {
  begun_ = -1;
  states_at_begin_.clear();
}

void Sequence::commit(int tokens) {
  MLXLM_CHECK(begun_ >= 0, "commit without begin");
  MLXLM_CHECK(tokens >= 0 && tokens <= begun_, "commit of more than was begun");
  MLXLM_CHECK(
      tokens == begun_ || states_.empty(),
      "recurrent states cannot commit a part: roll back and run it again");
  length_ += tokens;
  end();
  for (auto& table : tables_) {
    table.shorten(length_);
    table.slide(length_);
  }
  bool boundary = length_ % shared_->options.page_tokens == 0;
  if (tokens > 0 && boundary) add_checkpoint();
}

void Sequence::rollback() {
  MLXLM_CHECK(begun_ >= 0, "rollback without begin");
  states_ = states_at_begin_;
  // What the pass was to write stays in written_: it may hold up earlier
  // writes, and rows behind the length do no harm.
  end();
  for (auto& table : tables_)
    table.shorten(length_);
}

void Sequence::mark() {
  MLXLM_CHECK(begun_ < 0, "mark inside begin");
  add_checkpoint();
}

void Sequence::add_checkpoint() {
  if (states_.empty() || length_ == 0) return;
  if (!checkpoints_.empty() && checkpoints_.back()->length == length_) return;
  checkpoints_.push_back(
      std::make_shared<const Checkpoint>(shared_, length_, states_));
  if (checkpoints_.size() > most_checkpoints) thin_checkpoints();
}

// Drops the one that is missed least: the gap that it leaves, as a share of the
// way back to it, is the smallest. So they lie close where the sequence ends,
// and there is one for whoever shares only its beginning.
void Sequence::thin_checkpoints() {
  auto at = [&](std::size_t i) { return float(checkpoints_[i]->length); };
  std::size_t least = 0;
  float least_missed = std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i + 1 < checkpoints_.size(); ++i) {
    float before = i > 0 ? at(i - 1) : 0;
    float missed = (at(i + 1) - before) / (float(length_) - at(i) + 1);
    if (missed < least_missed) least = i, least_missed = missed;
  }
  checkpoints_.erase(checkpoints_.begin() + std::ptrdiff_t(least));
}

int Sequence::trim(int length) {
  MLXLM_CHECK(begun_ < 0, "trim inside begin");
  MLXLM_CHECK(length >= 0, "trim to a negative length");
  if (length >= length_) return length_;
  auto keep = checkpoints_.size();
  if (!states_.empty()) {
    while (keep > 0 && checkpoints_[keep - 1]->length > length)
      --keep;
    length = keep > 0 ? checkpoints_[keep - 1]->length : 0;
  }
  bool reached = std::all_of(tables_.begin(), tables_.end(), [&](auto& table) {
    return table.reaches(length);
  });
  if (!reached) length = 0;
  if (length == 0) keep = 0;
  checkpoints_.resize(keep);
  if (!states_.empty()) {
    states_ = length > 0 ? checkpoints_.back()->states : zero_states();
  }
  for (auto& table : tables_)
    table.shorten(length);
  if (length == 0 && packed_) {
    for (auto& table : tables_)
      table.unpack();
    packed_ = false;
  }
  return length_ = length;
}

std::unique_ptr<SequenceMemory> Sequence::fork() {
  MLXLM_CHECK(begun_ < 0, "fork inside begin");
  return std::unique_ptr<SequenceMemory>(new Sequence(*this));
}

std::size_t Sequence::bytes() const {
  std::size_t total = shared_->bytes_of_states() * (1 + checkpoints_.size());
  for (const auto& table : tables_)
    total += table.bytes();
  return total;
}

const Layer& Sequence::with_rows(int layer) const {
  auto& layers = shared_->layout.layers;
  bool good = layer >= 0 && layer < int(layers.size()) &&
      layers[layer].kind == Layer::Kind::keys_values && !layers[layer].borrows;
  MLXLM_CHECK(good, "a layer with rows of its own");
  return layers[layer];
}

CacheRows Sequence::rows(int layer, int first, int count, bool codes) {
  auto& where = with_rows(layer);
  auto& pages = *tables_[where.group].pages();
  int tokens = shared_->options.page_tokens;
  bool good =
      begun_ < 0 && first >= 0 && count >= 0 && first + count <= length_;
  for (int i = first / tokens; good && i * tokens < first + count; ++i)
    good = pages.pages[i] != nullptr;
  MLXLM_CHECK(good, "rows that are remembered");
  settle(where.group);
  return shared_->stores[where.group]->read(
      where.slot, pages, first, count, codes);
}

void Sequence::set_rows(int layer, int first, const CacheRows& rows) {
  auto& where = with_rows(layer);
  bool good = begun_ >= 0 && first >= length_ && rows.count >= 0 &&
      first + rows.count <= length_ + begun_;
  MLXLM_CHECK(good, "rows of what was begun");
  settle(where.group);
  shared_->stores[where.group]->write(
      where.slot, tables_[where.group].pages(), first, rows);
}

std::vector<std::byte> Sequence::packed_page(int layer, int number) {
  auto& where = with_rows(layer);
  auto& pages = tables_[where.group].pages()->pages;
  bool good = begun_ < 0 && number >= 0 && number < int(pages.size()) &&
      pages[number] != nullptr;
  MLXLM_CHECK(good, "a page that is remembered");
  if (!pages[number]->packed) return {};
  settle(where.group);
  return shared_->stores[where.group]->packed_layer(where.slot, *pages[number]);
}

void Sequence::set_packed_page(
    int layer,
    int number,
    std::span<const std::byte> bytes) {
  auto& where = with_rows(layer);
  auto& pages = tables_[where.group].pages()->pages;
  bool good = begun_ >= 0 && number * shared_->options.page_tokens >= length_ &&
      number < int(pages.size());
  MLXLM_CHECK(good, "a page of what was begun");
  settle(where.group);
  auto& page = *pages[number];
  auto& store = *shared_->stores[where.group];
  if (!page.packed || !store.set_packed_layer(where.slot, page, bytes))
    fail(
        ErrorKind::io,
        "packed page",
        "expected one of this memory, found another's");
}

View Sequence::view(int group, const Segment& segment) const {
  MLXLM_CHECK(
      segment.offset == length_ &&
          (segment.looks ? segment.count == 1 && length_ > 0
                         : segment.count <= begun_),
      "a segment must lie in what its sequence has begun");
  // Its own place is not written: it sees what the token before it saw.
  if (segment.looks)
    return {tables_[group].pages(), segment.first, 1, segment.offset - 1, true};
  return {
      tables_[group].pages(),
      segment.first,
      segment.count,
      segment.offset,
      segment.apart};
}

} // namespace mlxlm::cache
