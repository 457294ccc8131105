// One sequence that a ModelRunner runs.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "generate/adapters.h"
#include "generate/model_runner.h"

namespace mlxlm {

struct ModelRunner::Sequence {
  RequestPtr request;
  std::unique_ptr<SequenceMemory> memory;
  std::vector<int> tokens; // of the prompt, once read, then the drawn ones
  std::vector<int> again; // what a rewound one reads instead of the prompt
  int drawn = 0; // how many those are
  SamplerPtr sampler;
  Drafter* drafter = nullptr; // null: nothing is guessed
  std::unique_ptr<DraftState> guesses;
  std::optional<DraftLength> draft_length;
  std::uint64_t drawn_in = 0; // number of the pass that drew the last token
  int row = 0; // and its row there
  bool broken = false;
  std::shared_ptr<PrefixStore> prefixes; // null: leaves nothing to others
  PrefixPin pin = nullptr; // on what it shares
  std::set<int> leave_at = {}; // tokens read that somebody waits for

  // Of what it remembers, besides its tokens.
  std::uint64_t key() const;
  const std::vector<int>& script() const { // what it reads
    return again.empty() ? request->prompt : again;
  }

  bool watched() const { // its hidden states are wanted
    return drafter && drafter->watches();
  }
  // Not: decoded token by token, a pass ahead.
  bool reads_ahead() const {
    return request->reads_ahead();
  }

  // Tokens that are known and not read. Without reading ahead: once the pass
  // under way is over.
  int unread() const {
    return static_cast<int>(tokens.size()) - memory->length();
  }

  // Gives back to the cache, or leaves to others, what the model has really
  // read. The last pass may have read one token more than is known.
  ~Sequence() {
    const auto& cache = request->cache;
    if ((!cache && !prefixes) || !memory || broken) return;
    auto known = static_cast<int>(tokens.size());
    if (memory->length() > known) known = memory->trim(known);
    tokens.resize(std::min(known, memory->length()));
    memory->mark();
    if (cache) {
      cache->guesses = std::move(guesses);
      cache->guessed_by = request->draft.kind;
      if (prefixes) prefixes->leave(tokens, *memory, key());
      cache->tokens = std::move(tokens);
      cache->memory = std::move(memory);
    } else {
      leave();
    }
  }

  // All that it has read, to others.
  void leave() const {
    prefixes->leave(tokens, *memory, key());
    prefixes->insert(tokens, *memory, key());
  }
};

} // namespace mlxlm
