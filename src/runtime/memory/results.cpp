// Blocks cut into pieces; see results.h.
#include "runtime/memory/results.h"

#include <mlx/device.h>
#include <mlx/memory.h>
#include <mlx/stream.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/check.h"

namespace mlxlm::kernels {
namespace {

constexpr std::size_t cache_line = 64; // pieces begin on cache lines
constexpr std::size_t least_block = std::size_t{4} << 20;
constexpr std::size_t doubling = std::size_t{32} << 20; // up to such blocks
// Of blocks that the next pass will want again.
constexpr std::size_t kept = std::size_t{32} << 20;

std::size_t rounded(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// What is a little too small for the next pass would be no use to it.
std::size_t block_for(std::size_t size) {
  auto block = least_block;
  while (block < size && block < doubling)
    block *= 2;
  return std::max(block, rounded(size, least_block));
}

thread_local const ResultsGoTo* elsewhere = nullptr;

} // namespace

void ResultMemory::grow(std::size_t size) {
  auto bytes = block_for(size);
  auto data = mx::allocator::malloc(bytes + cache_line);
  auto buffer = data.buffer();
  if (!buffer.ptr())
    fail(
        ErrorKind::resource,
        "results",
        "expected {} bytes more, found no memory",
        bytes);
  auto address = reinterpret_cast<std::uintptr_t>(buffer.raw_ptr());
  auto begin = rounded(address, cache_line) - address;
  auto [it, made] =
      blocks_.emplace(++last_block_, Block{std::move(data), begin, bytes});
  it->second.free.emplace(0, bytes);
  held_ += bytes;
}

// The smallest free piece that is large enough, the mutex held.
ResultMemory::Piece ResultMemory::take(std::size_t size) {
  Block* best = nullptr;
  std::map<std::size_t, std::size_t>::iterator place;
  int number = 0;
  for (auto& [id, block] : blocks_)
    for (auto it = block.free.begin(); it != block.free.end(); ++it)
      if (it->second >= size && (!best || it->second < place->second)) {
        best = &block;
        place = it;
        number = id;
      }
  if (!best) {
    grow(size);
    return take(size);
  }
  auto [at, free] = *place;
  best->free.erase(place);
  if (free > size) best->free.emplace(at + size, free - size);
  used_ += size;
  return {number, at, size, round_};
}

void ResultMemory::give_back(const Piece& piece) {
  std::lock_guard lock(mutex_);
  if (piece.round != round_) return;
  used_ -= piece.size;
  auto& block = blocks_.at(piece.block);
  auto it = block.free.emplace(piece.at, piece.size).first;
  auto next = std::next(it);
  if (next != block.free.end() && it->first + it->second == next->first) {
    it->second += next->second;
    block.free.erase(next);
  }
  if (it != block.free.begin()) {
    auto before = std::prev(it);
    if (before->first + before->second == it->first) {
      before->second += it->second;
      block.free.erase(it);
    }
  }
  if (block.empty()) drop_empty(keep_);
}

// The newest first: the largest came last.
void ResultMemory::drop_empty(std::size_t keep) {
  std::size_t empty = 0;
  for (auto it = blocks_.begin(); it != blocks_.end();) {
    auto current = it++;
    if (!current->second.empty()) continue;
    empty += current->second.size;
    if (empty <= keep) continue;
    empty -= current->second.size;
    held_ -= current->second.size;
    blocks_.erase(current);
  }
}

void ResultMemory::allocate(mx::array& x) {
  // A byte at least: a piece has a place.
  auto size = rounded(std::max<std::size_t>(x.nbytes(), 1), cache_line);
  std::unique_lock lock(mutex_);
  auto piece = take(size);
  const auto& block = blocks_.at(piece.block);
  auto buffer = block.data.buffer();
  auto offset = static_cast<std::int64_t>(block.begin + piece.at);
  lock.unlock();
  auto back = [memory = shared_from_this(), piece](mx::allocator::Buffer) {
    memory->give_back(piece);
  };
  auto flags = x.flags();
  flags.contiguous = flags.row_contiguous = true;
  auto longest = std::max_element(x.shape().begin(), x.shape().end());
  flags.col_contiguous =
      x.size() <= 1 || x.size() == static_cast<std::size_t>(*longest);
  x.set_data(
      mx::allocator::Data(buffer, std::move(back)),
      x.size(),
      x.strides(),
      flags,
      offset);
}

void ResultMemory::start_over() {
  std::lock_guard lock(mutex_);
  ++round_;
  used_ = 0;
  for (auto& [id, block] : blocks_)
    block.free = {{0, block.size}};
}

void ResultMemory::release() {
  std::lock_guard lock(mutex_);
  drop_empty(0);
}

std::size_t ResultMemory::held() const {
  std::lock_guard lock(mutex_);
  return held_;
}

std::size_t ResultMemory::unused() const {
  std::lock_guard lock(mutex_);
  return held_ - used_;
}

ResultMemory& results() {
  // Never destroyed: arrays of other statics may die later.
  static auto& all =
      *new std::shared_ptr<ResultMemory>(std::make_shared<ResultMemory>(kept));
  return *all;
}

std::size_t live_arrays() {
  auto unused = results().unused(), all = mx::get_active_memory();
  return all - std::min(all, unused);
}

void allocate(mx::array& x) {
  const auto* scope = elsewhere;
  if (!scope || scope->lasting_.count(x.id()) > 0) return results().allocate(x);
  // What the kernels before have done with is free.
  mx::synchronize(mx::default_stream(mx::Device::cpu));
  scope->memory_.allocate(x);
}

ResultsGoTo::ResultsGoTo(
    ResultMemory& memory,
    std::unordered_set<std::uintptr_t> lasting)
    : memory_(memory), lasting_(std::move(lasting)) {
  elsewhere = this;
}

ResultsGoTo::~ResultsGoTo() {
  elsewhere = nullptr;
}

} // namespace mlxlm::kernels
