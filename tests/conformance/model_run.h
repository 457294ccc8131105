// Runs a loaded model the ways it can be run - whole prompts, chunks, single
// tokens, several sequences in one pass - and gives logits as plain vectors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cache/memory.h"
#include "models/load.h"

namespace mlxlm::conformance {

using Logits = std::vector<float>; // [T, V]

class ModelRun {
 public:
  // Keys and values are remembered in the compute type.
  ModelRun(const std::string& folder, mx::Dtype type);
  explicit ModelRun(LoadedModel model);

  // How keys and values are remembered from now on.
  void set_storage(const KvStorage& storage) {
    storage_ = storage;
  }
  int vocab() const;
  const LoadedModel& model() const {
    return model_;
  }
  // Logits of every token of `ids`, in passes of at most `chunk` tokens.
  Logits logits(const std::vector<int>& ids, int chunk) const;
  // Logits of the last token of `ids` and, appended, of each of `next` but the
  // last: what greedy decoding saw.
  Logits decode(const std::vector<int>& ids, const std::vector<int>& next)
      const;
  // Several sequences in ragged passes: sequence i is cut into pieces of
  // `pieces[i]` tokens, and a pass takes the next piece of each.
  std::vector<Logits> together(
      const std::vector<std::vector<int>>& sequences,
      const std::vector<int>& pieces) const;

 private:
  struct Sequence;
  Logits pass(Memory& memory, std::vector<Sequence*> sequences, bool all) const;

  std::unique_ptr<Memory> memory() const;

  LoadedModel model_;
  KvStorage storage_;
};

} // namespace mlxlm::conformance
