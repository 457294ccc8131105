// What sequences of a ModelRunner leave for others, and find; see
// model_runner.h.
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "generate/model_runner_sequence.h"
#include "hub/digest.h"

namespace mlxlm {

// A salt is somebody's secret: who does not know it finds no key that is equal.
std::uint64_t ModelRunner::Sequence::key() const {
  auto key = request->adapter ? request->adapter->key() : 0;
  if (request->cache_salt.empty()) return key;
  auto sha = hub::make_sha256();
  sha->update(std::as_bytes(std::span(&key, 1)));
  sha->update(std::as_bytes(std::span(request->cache_salt)));
  return std::stoull(sha->finish().substr(0, 16), nullptr, 16);
}

// What another sequence has read of the prompt, if it is more.
void ModelRunner::find_prefix(Sequence& sequence) const {
  const auto& prompt = sequence.script();
  auto found = prefixes_->find(prompt, sequence.key());
  auto known = static_cast<int>(sequence.tokens.size());
  if (!found || found->length <= known) return;
  sequence.memory = std::move(found->memory);
  sequence.pin = std::move(found->pin);
  sequence.tokens.assign(prompt.begin(), prompt.begin() + found->length);
}

int ModelRunner::state_tokens() const {
  const auto& shape = prefixes_->shape();
  return shape.states ? shape.page_tokens : 0;
}

int ModelRunner::shared_tokens() const {
  return prefixes_->shape().page_tokens;
}

bool ModelRunner::leave_at(std::uint64_t id, int tokens) {
  auto& sequence = *sequences_.at(id);
  if (!sequence.prefixes) return false;
  sequence.leave_at.insert(tokens);
  leave_so_far(sequence);
  return true;
}

int ModelRunner::look_again(std::uint64_t id) {
  auto& sequence = *sequences_.at(id);
  if (sequence.prefixes) find_prefix(sequence);
  return static_cast<int>(sequence.tokens.size());
}

// In the middle of a prompt, for those who wait for it.
void ModelRunner::leave_so_far(Sequence& sequence) const {
  auto& at = sequence.leave_at;
  auto read = static_cast<int>(sequence.tokens.size());
  auto beyond = at.upper_bound(read);
  if (beyond == at.begin()) return;
  at.erase(at.begin(), beyond);
  sequence.memory->mark();
  auto page = prefixes_->shape().page_tokens;
  auto whole = static_cast<std::size_t>(read / page * page);
  sequence.pin = sequence.prefixes->insert(
      std::span<const int>(sequence.tokens).first(whole),
      *sequence.memory,
      sequence.key());
}

// Once a prompt is read others may begin with it: whole pages, as a page that
// is still written would have to be copied; but states are of the very end.
void ModelRunner::leave_prompt(Sequence& sequence) const {
  sequence.memory->mark();
  if (!sequence.prefixes) return;
  const auto& shape = prefixes_->shape();
  auto page = static_cast<std::size_t>(shape.page_tokens);
  std::span<const int> read(sequence.tokens);
  if (!shape.states) read = read.first(read.size() / page * page);
  prefixes_->leave(read, *sequence.memory, sequence.key());
  sequence.pin = prefixes_->insert(read, *sequence.memory, sequence.key());
}

void ModelRunner::rewind(std::uint64_t id) {
  auto& sequence = *sequences_.at(id);
  sequence.again = sequence.tokens;
  if (sequence.prefixes) { // as long as nobody needs the pages
    sequence.tokens.resize(sequence.memory->length());
    sequence.memory->mark();
    sequence.leave();
  }
  sequence.pin.reset();
  sequence.leave_at.clear();
  sequence.tokens.clear();
  sequence.memory = forward_.memory().sequence();
}

int ModelRunner::resume(std::uint64_t id) {
  auto& sequence = *sequences_.at(id);
  if (sequence.prefixes) find_prefix(sequence);
  return static_cast<int>(sequence.tokens.size());
}

} // namespace mlxlm
