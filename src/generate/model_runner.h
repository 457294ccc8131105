// The Runner over a loaded model and its memory.
#pragma once

#include <mlx/array.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "cache/memory.h"
#include "generate/prefix_store.h"
#include "generate/recordings.h"
#include "generate/runner.h"
#include "generate/sample_op.h"
#include "nn/model.h"

namespace mlxlm {

// What stays of a conversation between requests: the tokens read and what the
// model remembers of them. Touched only on the engine's thread, while no
// request has it.
class SequenceCache {
 public:
  std::vector<int> tokens; // read, as far as `memory` goes
  std::unique_ptr<SequenceMemory> memory;
};

class ModelRunner final : public Runner {
 public:
  ModelRunner(
      std::shared_ptr<const Model> model,
      std::shared_ptr<Memory> memory,
      SequenceBudget budget = {});
  ~ModelRunner() override;

  int open(std::uint64_t id, const RequestPtr& request) override;
  void close(std::uint64_t id) override;
  void start(const std::vector<Piece>& pieces) override;
  std::vector<Drawn> finish() override;
  void abandon() override;
  void changed() override;
  void rest() override;
  int state_tokens() const override;
  void rewind(std::uint64_t id) override;
  int resume(std::uint64_t id) override;
  SequenceBudget budget() const override {
    return budget_;
  }

  const Recordings& recordings() const {
    return recordings_;
  }

 private:
  struct Sequence;
  using SequencePtr = std::shared_ptr<Sequence>;
  struct Part { // a piece that joined a pass
    SequencePtr sequence;
    Piece piece;
  };
  struct Pass {
    std::uint64_t number = 0;
    std::vector<Part> parts;
    std::vector<SequencePtr> rows; // that draw, in the order of `sampled`
    std::vector<std::uint64_t> row_ids;
    std::vector<Drawn> left_out;
    std::optional<mx::array> result; // ids [S], or an empty row of logits
    std::optional<Replay> replay; // how it runs, where it is a recorded one
    SampledRows sampled;

    // Whether every part reads one token and draws the next.
    bool decodes() const;
  };

  void find_prefix(Sequence& sequence) const;
  void make_room(SequenceMemory& memory, int tokens);
  void leave_prompt(Sequence& sequence);
  static bool ends_message(const Sequence& sequence);
  void take_parts(const std::vector<Piece>& pieces, Pass& pass);
  const mx::array* ids_under_way(std::uint64_t number) const;
  TokenJob tokens_of(const Pass& pass) const;
  Step step_of(Pass& pass, std::vector<int>& rows, SampleJob& samples) const;
  void begin(Pass& pass);
  void commit(Pass& pass);

  // Before the sequences, which die first.
  std::shared_ptr<const Model> model_;
  std::shared_ptr<Memory> memory_;
  std::shared_ptr<PrefixStore> prefixes_ = std::make_shared<PrefixStore>();
  SequenceBudget budget_;
  std::map<std::uint64_t, SequencePtr> sequences_;
  std::deque<Pass> passes_; // under way, oldest first
  std::uint64_t started_ = 0; // passes so far
  Recordings recordings_;
};

} // namespace mlxlm
