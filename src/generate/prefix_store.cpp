#include "generate/prefix_store.h"

#include <algorithm>

#include "core/check.h"
#include "generate/common_prefix.h"

namespace mlxlm {
namespace {

// Tokens of a block. Shorter beginnings are read again sooner than found.
constexpr int block = 16;
// Windows and recurrent states may have to go back further than asked: so many
// are tried.
constexpr std::size_t most_tries_back = 4;

// Of the beginnings of one block, of two ...
std::vector<std::uint64_t> hashes_of(
    const std::vector<int>& tokens,
    std::uint64_t key) {
  std::vector<std::uint64_t> out;
  std::uint64_t h = 0xCBF29CE484222325 ^ key;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    h = (h ^ static_cast<std::uint32_t>(tokens[i])) * 0x9E3779B97F4A7C15;
    h ^= h >> 29;
    if ((i + 1) % block == 0) out.push_back(h);
  }
  return out;
}

} // namespace

std::vector<PrefixStore::Shared> PrefixStore::alike(
    const std::vector<int>& prompt,
    std::uint64_t key,
    std::size_t count) const {
  std::vector<Shared> found;
  auto hashes = hashes_of(prompt, key);
  for (auto level = hashes.size(); level-- > 0 && found.size() < count;) {
    auto bucket = by_hash_.find(hashes[level]);
    if (bucket == by_hash_.end()) continue;
    auto first = static_cast<std::ptrdiff_t>(found.size());
    for (const auto& place : bucket->second) {
      bool known = std::any_of(found.begin(), found.end(), [&](auto& s) {
        return s.place == place;
      });
      int length =
          known || place->key != key ? 0 : common_prefix(place->tokens, prompt);
      if (length >= block) found.push_back({place, length});
    }
    std::stable_sort(found.begin() + first, found.end(), [](auto& a, auto& b) {
      return a.length > b.length;
    });
  }
  if (found.size() > count) found.resize(count);
  return found;
}

std::optional<PrefixStore::Found> PrefixStore::find(
    const std::vector<int>& prompt,
    std::uint64_t key) {
  auto most = static_cast<int>(prompt.size()) - 1;
  std::optional<Found> best;
  auto from = entries_.end();
  for (auto& [place, common] : alike(prompt, key, most_tries_back)) {
    int length = std::min(common, most);
    if (length < block || (best && best->length >= length)) break;
    auto memory = place->memory->fork();
    int reached = memory->trim(length);
    if (reached < block || (best && best->length >= reached)) continue;
    best = Found{std::move(memory), reached};
    from = place;
  }
  if (best) entries_.splice(entries_.begin(), entries_, from);
  int known = best ? best->length : block - 1;
  if (tier_ && known < most)
    if (auto more = tier_->find(prompt, key, known)) return more;
  return best;
}

std::optional<PrefixStore::Place> PrefixStore::find_same(
    const std::vector<int>& tokens,
    std::uint64_t key,
    std::uint64_t hash) const {
  auto bucket = by_hash_.find(hash);
  if (bucket == by_hash_.end()) return std::nullopt;
  for (const auto& place : bucket->second)
    if (place->key == key && place->tokens == tokens) return place;
  return std::nullopt;
}

void PrefixStore::leave(
    const std::vector<int>& tokens,
    std::uint64_t key,
    SequenceMemory& memory) {
  bool whole = memory.length() == static_cast<int>(tokens.size());
  if (tier_ && whole && memory.length() >= block)
    tier_->leave(tokens, key, memory);
}

void PrefixStore::insert(
    std::vector<int> tokens,
    std::unique_ptr<SequenceMemory> memory,
    std::uint64_t key) {
  MLXLM_CHECK(
      memory && memory->length() == static_cast<int>(tokens.size()),
      "a sequence and its tokens");
  if (static_cast<int>(tokens.size()) < block) return;
  leave(tokens, key, *memory);
  auto hashes = hashes_of(tokens, key);
  if (auto same = find_same(tokens, key, hashes.back())) remove(*same);
  entries_.push_front(
      {key, std::move(tokens), std::move(memory), std::move(hashes)});
  for (auto h : entries_.front().hashes)
    by_hash_[h].push_back(entries_.begin());
  while (entries_.size() > most_)
    evict();
}

void PrefixStore::remove(Place place) {
  for (auto h : place->hashes) {
    auto bucket = by_hash_.find(h);
    auto& list = bucket->second;
    list.erase(std::find(list.begin(), list.end(), place));
    if (list.empty()) by_hash_.erase(bucket);
  }
  entries_.erase(place);
}

bool PrefixStore::evict() {
  if (entries_.empty()) return false;
  remove(std::prev(entries_.end()));
  return true;
}

void PrefixStore::clear() {
  by_hash_.clear();
  entries_.clear();
}

} // namespace mlxlm
