// Who may go next: so many answers are made at once, the others wait, and no
// client waits for another's queue. Pure; knows no model.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace mlxlm::serve {

struct GateLimits {
  int slots = 1; // places that are ready at once
  std::int64_t queue = 0; // that wait, of all clients
  std::int64_t queue_per_client = 0;
};

class Gate : public std::enable_shared_from_this<Gate> {
 public:
  // A place, given back when it is destroyed.
  class Place {
   public:
    Place(std::shared_ptr<Gate> gate, std::string client, int priority)
        : gate_(std::move(gate)),
          client_(std::move(client)),
          priority_(priority) {}
    ~Place();
    bool ready() const;

   private:
    friend class Gate;
    const std::shared_ptr<Gate> gate_;
    const std::string client_;
    const int priority_;
    std::function<void()> wake_;
    bool ready_ = false;
    std::uint64_t order_ = 0;
  };
  using PlacePtr = std::unique_ptr<Place>;

  // `count` places; `wake` is called whenever one that waited becomes ready.
  // Lower priorities go first, then the client with fewest ready places, then
  // who came first. Empty, and `reason` says which limit, when there are too
  // many.
  std::vector<PlacePtr> enter(
      const std::string& client,
      int count,
      int priority,
      const GateLimits& limits,
      std::function<void()> wake,
      std::string& reason);

  int ready() const;
  int waiting() const;
  int places_of(const std::string& client) const;

 private:
  void leave(Place* place);
  void grant(std::vector<std::function<void()>>& wakes);

  mutable std::mutex mutex_;
  int slots_ = 1;
  int ready_ = 0;
  std::uint64_t next_ = 0;
  std::list<Place*> waiting_; // in order of arrival
  std::map<std::string, int> ready_by_client_, waiting_by_client_;
};

} // namespace mlxlm::serve
