// The Runner over a loaded model and its memory.
#pragma once

#include <mlx/array.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "cache/memory.h"
#include "generate/drafting/draft_length.h"
#include "generate/drafting/drafter.h"
#include "generate/forward.h"
#include "generate/prefix_store.h"
#include "generate/runner.h"

namespace mlxlm {

// What stays of a conversation between requests: the tokens read and what the
// model remembers of them. Touched only on the engine's thread, while no
// request has it.
class SequenceCache {
 public:
  std::vector<int> tokens; // read, as far as `memory` goes
  std::unique_ptr<SequenceMemory> memory;
  std::unique_ptr<DraftState> guesses; // of the drafter `guessed_by`
  DraftKind guessed_by = DraftKind::none;
  // From a file that does not say that it is of this model and what it has
  // read: not for others.
  bool foreign = false;
};

class ModelRunner final : public Runner {
 public:
  ModelRunner(
      std::shared_ptr<const Model> model,
      std::shared_ptr<Memory> memory,
      SequenceBudget budget = {},
      std::shared_ptr<PrefixTier> tier = nullptr); // under the prefixes
  ~ModelRunner() override;

  // What DraftKind::model and mtp use; requests of these kinds come only then.
  void use_draft_model(std::unique_ptr<Drafter> drafter);
  void use_prediction(std::unique_ptr<Drafter> drafter);
  // The model's adapters, which requests name.
  void use_adapters(std::shared_ptr<AdapterBank> adapters) {
    forward_.use_adapters(std::move(adapters));
  }

  int open(std::uint64_t id, const RequestPtr& request) override;
  void close(std::uint64_t id) override;
  void start(const std::vector<Piece>& pieces) override;
  std::vector<Drawn> finish() override;
  void abandon() override;
  void changed() override;
  void rest() override;
  int state_tokens() const override;
  PageCounts pages() const override;
  void rewind(std::uint64_t id) override;
  int shared_tokens() const override;
  bool leave_at(std::uint64_t id, int tokens) override;
  int look_again(std::uint64_t id) override;
  int resume(std::uint64_t id) override;
  SequenceBudget budget() const override {
    return budget_;
  }

  const Recordings& recordings() const {
    return forward_.recordings();
  }

 private:
  struct Sequence;
  using SequencePtr = std::shared_ptr<Sequence>;
  struct Part { // a piece that joined a pass
    SequencePtr sequence;
    Piece piece;
    int count = 0; // tokens read: the piece's, and those drafted after it
    Draft draft = {};
    bool forced = false; // the draft is what has to come
    struct {
      int row = 0; // its first in Running::hidden, where that is wanted
      int offset = 0; // tokens read before
      int taken = 0; // of the draft, once settled
    } seen = {};
  };
  struct Pass {
    std::uint64_t number = 0;
    std::vector<Part> parts;
    std::vector<int> drawing; // parts that draw, as `running` has them
    std::vector<Drawn> left_out;
    std::optional<Running> running;
  };

  static int adapter_of(const Sequence& sequence);
  void find_prefix(Sequence& sequence) const;
  void leave_prompt(Sequence& sequence) const;
  void leave_so_far(Sequence& sequence) const;
  static bool ends_message(const Sequence& sequence);
  Drafter* drafter_of(DraftKind kind) const;
  void open_drafter(Sequence& sequence) const;
  std::vector<Part> parts_of(const std::vector<Piece>& pieces) const;
  void draft(std::vector<Part>& parts) const;
  static void force(Part& part);
  bool reserve(Part& part, std::vector<Drawn>& left_out);
  void take_parts(const std::vector<Piece>& pieces, Pass& pass);
  const mx::array* ids_under_way(std::uint64_t number) const;
  TokenJob tokens_of(const Pass& pass) const;
  PassPlan plan_of(Pass& pass) const;
  static void show(const Pass& pass);
  void commit(Pass& pass);
  void settle(Part& part, DrawnTokens& drawn, std::vector<Drawn>& out) const;

  // Before the sequences, which die first.
  Forward forward_;
  std::unique_ptr<Drafter> draft_model_, prediction_, prompt_lookup_;
  std::shared_ptr<PrefixStore> prefixes_;
  SequenceBudget budget_;
  std::map<std::uint64_t, SequencePtr> sequences_;
  std::deque<Pass> passes_; // under way, oldest first
  std::uint64_t started_ = 0; // passes so far
};

} // namespace mlxlm
