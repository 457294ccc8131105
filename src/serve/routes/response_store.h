// Answers of /v1/responses that may be gone on from: by id and by whose they
// are, in memory, the oldest forgotten first.
#pragma once

#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "core/json.h"

namespace mlxlm::serve {

class ResponseStore {
 public:
  struct Entry {
    std::string client;
    Json response; // as it was given
    Json conversation; // OpenAI messages, the answer included
  };
  explicit ResponseStore(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  void put(const std::string& id, Entry entry);
  // Nothing for ids that are unknown, forgotten or another client's.
  std::optional<Entry> get(const std::string& id, const std::string& client)
      const;
  bool remove(const std::string& id, const std::string& client);

 private:
  struct Kept {
    Entry entry;
    std::size_t bytes;
  };
  void drop(const std::string& id);

  const std::size_t max_bytes_;
  mutable std::mutex mutex_;
  std::map<std::string, Kept> entries_;
  std::deque<std::string> order_;
  std::size_t bytes_ = 0;
};

} // namespace mlxlm::serve
