// One round of guesses by a model: token by token, for all sequences together,
// the passes queued without waiting for one another.
#pragma once

#include <optional>
#include <vector>

#include "generate/drafting/drafter.h"
#include "generate/forward.h"

namespace mlxlm {

// Tokens that the first pass of a round reads; more are read before.
constexpr int most_unread = 4;

struct Guessing {
  DraftTask* task;
  SequenceMemory* memory;
  // What its first pass reads, >= 1 token, and for a model that predicts
  // further tokens the hidden states with them, [1, count, width]. In later
  // passes that is what it made of the token before.
  std::vector<int> unread;
  std::optional<mx::array> hidden = {};
  // `memory` is the model's: what is guessed is not stored in it.
  bool looks = false;

  // Left behind: what each pass drew. `unread` and all of these but the last
  // have been read. Empty: there was no room.
  std::vector<int> drawn = {};

  SamplerPtr sampler = {};
  std::vector<int> draws = {}; // of each pass, which of its draws is its own
  int row = 0; // of the pass before, where its token is
};

// Fills in the tasks' drafts. `vocab`: of the model they are for. All have
// hidden states or none has.
void guess(Forward& forward, std::vector<Guessing>& all, int vocab);

} // namespace mlxlm
