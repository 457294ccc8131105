// See pass_tables.h.
#include "cache/pass_tables.h"

#include "core/check.h"

namespace mlxlm::cache {

Sequence& sequence_of(const Shared& shared, const Segment& segment) {
  MLXLM_CHECK(segment.sequence, "a segment without a sequence");
  auto& sequence = static_cast<Sequence&>(*segment.sequence);
  MLXLM_CHECK(&sequence.shared() == &shared, "a sequence of another memory");
  return sequence;
}

Tables::Tables(const Shared& shared, const Step& step)
    : shared_(shared),
      segments_(step.paged_segments()),
      places_(shared.layout.recurrent.size()) {
  for (std::size_t i = 0; i < shared.layout.groups.size(); ++i) {
    std::vector<View> views;
    for (auto& segment : step.paged_segments())
      views.push_back(sequence_of(shared, segment).view(int(i), segment));
    groups_.emplace_back(std::move(views));
  }
}

const kernels::StatePlacesPtr& Tables::places(int slot, int index) {
  if (places_[slot].empty()) advance(slot);
  return places_[slot][index];
}

void Tables::swap(PassTables& other) {
  auto& theirs = static_cast<Tables&>(other);
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    groups_[i].views.swap(theirs.groups_[i].views);
    groups_[i].segments->swap(*theirs.groups_[i].segments);
  }
  for_places([&](auto slot, auto i) {
    places_[slot][i]->segments.swap(theirs.places_[slot][i]->segments);
  });
}

void Tables::prepare(const PassTables& recorded) {
  auto& theirs = static_cast<const Tables&>(recorded);
  for (std::size_t slot = 0; slot < places_.size(); ++slot)
    if (!theirs.places_[slot].empty()) advance(int(slot));
}

void Tables::clear() {
  for (auto& group : groups_) {
    group.views.clear();
    group.segments->clear();
  }
  for_places([&](auto slot, auto i) { places_[slot][i]->segments.clear(); });
}

void Tables::advance(int slot) {
  auto& places = places_[slot];
  for (std::size_t i = 0; i < shared_.layout.recurrent[slot].states.size(); ++i)
    places.push_back(std::make_shared<kernels::StatePlaces>());
  for (auto& segment : segments_) {
    auto& sequence = sequence_of(shared_, segment);
    auto& after = sequence.advance(slot);
    auto& before = sequence.before(slot);
    for (std::size_t i = 0; i < places.size(); ++i)
      places[i]->segments.push_back(
          {segment.first,
           segment.count,
           before[i].data<std::byte>(),
           const_cast<std::byte*>(after[i].data<std::byte>())});
  }
}

Tables& tables_of(const Shared& shared, const Step& step) {
  auto& tables = step.tables();
  if (!tables) tables = std::make_shared<Tables>(shared, step);
  return static_cast<Tables&>(*tables);
}

} // namespace mlxlm::cache
