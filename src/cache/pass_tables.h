// What the layers of one pass read: the views of its segments in every group of
// layers, and where recurrent states are and will be.
#pragma once

#include <vector>

#include "cache/paged_memory.h"
#include "cache/sequence.h"
#include "cache/step.h"

namespace mlxlm::cache {

// The sequence of a segment; it must be of this memory.
Sequence& sequence_of(const Shared& shared, const Segment& segment);

class Tables final : public PassTables {
 public:
  Tables(const Shared& shared, const Step& step);

  const GroupViews& group(int index) const {
    return groups_[index];
  }
  // Where state `index` of recurrent layer `slot` is and will be.
  const kernels::StatePlacesPtr& places(int slot, int index);

  void swap(PassTables& other) override;
  void prepare(const PassTables& recorded) override;
  void clear() override;

 private:
  template <typename Body>
  void for_places(const Body& body) {
    for (std::size_t slot = 0; slot < places_.size(); ++slot)
      for (std::size_t i = 0; i < places_[slot].size(); ++i)
        body(slot, i);
  }
  void advance(int slot);

  const Shared& shared_;
  std::vector<Segment> segments_;
  std::vector<GroupViews> groups_;
  // [recurrent layer][state], empty for those that were not asked for.
  std::vector<std::vector<kernels::StatePlacesPtr>> places_;
};

// The step's own, made when it is first asked for.
Tables& tables_of(const Shared& shared, const Step& step);

} // namespace mlxlm::cache
