// One sequence of a paged memory: page tables, recurrent states and their
// checkpoints.
#pragma once

#include <optional>

#include "cache/paged_memory.h"
#include "cache/parts.h"

namespace mlxlm::cache {

// Of recurrent states, besides the current ones.
constexpr std::size_t most_checkpoints = 4;

class Sequence final : public SequenceMemory {
 public:
  explicit Sequence(std::shared_ptr<Shared> shared);
  ~Sequence() override;

  int length() const override {
    return length_;
  }
  void begin(int tokens) override;
  void commit(int tokens) override;
  void rollback() override;
  int trim(int length) override;
  void mark() override;
  std::unique_ptr<SequenceMemory> fork() override;
  std::size_t bytes() const override;
  CacheRows rows(int layer, int first, int count, bool codes) override;
  void set_rows(int layer, int first, const CacheRows& rows) override;
  std::vector<std::byte> packed_page(int layer, int number) override;
  void set_packed_page(int layer, int number, std::span<const std::byte> bytes)
      override;

  // For the layers.
  const Shared& shared() const {
    return *shared_;
  }
  View view(int group, const Segment& segment) const;
  mx::array& state(int slot, int index) {
    return states_[slot][index];
  }
  // Layer `slot`'s states move to arrays that a kernel of this pass is to fill.
  // Those before stay until the pass after; both are evaluated, contiguous.
  const std::vector<mx::array>& advance(int slot);
  const std::vector<mx::array>& before(int slot) const {
    return spare_[slot];
  }
  // In parts; see parts.h.
  std::vector<PageColumn> kept_pages(int tokens);
  std::vector<std::pair<int, KeptPtr>> kept_states() const;
  void share(std::span<const PageColumn> pages);
  void adopt(
      const std::vector<PageColumn>& pages,
      int length,
      const KeptPtr& state);
  // The latest write of a layer that may not have been evaluated.
  std::optional<mx::array>& written(int group, int slot) {
    return written_[group][slot];
  }

 private:
  using States =
      std::vector<std::vector<mx::array>>; // [recurrent layer][index]
  // Shared by forks, accounted for once.
  struct Checkpoint final : KeptPart {
    Checkpoint(std::shared_ptr<Shared> owner, int at, States values);
    ~Checkpoint() override;
    std::shared_ptr<Shared> shared;
    int length;
    States states;
  };

  Sequence(const Sequence& other);
  States zero_states() const;
  const Layer& with_rows(int layer) const;
  void settle(int group);
  void copy_pages(int group, const std::vector<PageTable::Copy>& copies);
  void check_room(int tokens, bool pack) const;
  void pack();
  void add_checkpoint();
  void thin_checkpoints();
  void end();

  std::shared_ptr<Shared> shared_;
  int length_ = 0;
  int begun_ = -1; // tokens begun; -1: not begun
  bool packed_ = false; // pages from now on
  std::vector<PageTable> tables_;
  std::vector<std::vector<std::optional<mx::array>>> written_;
  States states_, states_at_begin_;
  States spare_; // of layers that have advanced: the states before
  std::vector<std::shared_ptr<const Checkpoint>>
      checkpoints_; // ascending length
};

} // namespace mlxlm::cache
