#include "generate/prefix_store.h"

#include "core/check.h"

namespace mlxlm {
namespace {

// Shorter beginnings are read again sooner than found.
constexpr int least_tokens = 16;

} // namespace

PrefixStore::PrefixStore(std::shared_ptr<Memory> memory)
    : memory_(std::move(memory)), shape_(part_shape(*memory_)), tree_(shape_) {}

std::optional<PrefixStore::Found> PrefixStore::find(
    const std::vector<int>& prompt,
    std::uint64_t key) {
  auto most = static_cast<int>(prompt.size()) - 1;
  std::optional<Found> best;
  auto match = tree_.match(prompt, key, most);
  if (match && match->length >= least_tokens)
    best = Found{
        sequence_from(*memory_, match->pages, match->length, match->state),
        match->length,
        std::move(match->pin)};
  int known = best ? best->length : least_tokens - 1;
  if (!tier_ || known >= most) return best;
  auto more = tier_->find(prompt, key, known, [&](auto& memory, int tokens) {
    begin(memory, tokens);
  });
  return more ? std::move(more) : std::move(best);
}

PrefixPin PrefixStore::insert(
    std::span<const int> tokens,
    SequenceMemory& memory,
    std::uint64_t key) {
  auto count = static_cast<int>(tokens.size());
  MLXLM_CHECK(count <= memory.length(), "a sequence and tokens of it");
  if (count < least_tokens) return nullptr;
  auto inserted =
      tree_.insert(tokens, key, kept_pages(memory, count), kept_states(memory));
  auto whole = static_cast<std::size_t>(count / shape_.page_tokens);
  share_pages(memory, std::span(inserted.pages).first(whole));
  fit();
  return std::move(inserted.pin);
}

void PrefixStore::leave(
    std::span<const int> tokens,
    SequenceMemory& memory,
    std::uint64_t key) {
  auto count = static_cast<int>(tokens.size());
  if (!tier_ || count < least_tokens) return;
  std::unique_ptr<SequenceMemory> copy;
  if (memory.length() > count) {
    copy = memory.fork();
    count = copy->trim(count);
    if (count < least_tokens) return;
    tokens = tokens.first(static_cast<std::size_t>(count));
  }
  std::vector<int> ids(tokens.begin(), tokens.end());
  tier_->leave(ids, key, copy ? *copy : memory);
}

void PrefixStore::begin(SequenceMemory& memory, int tokens) {
  for (;;) {
    try {
      return memory.begin(tokens);
    } catch (const Error& error) {
      bool full = error.kind() == ErrorKind::resource;
      if (!full || !tree_.evict()) throw;
    }
  }
}

void PrefixStore::fit() {
  auto most = shape_.max_bytes;
  while (most > 0 && memory_->bytes() > most && tree_.evict(false)) {
  }
}

} // namespace mlxlm
