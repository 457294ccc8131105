#include "serve/routes/response_store.h"

#include <algorithm>

namespace mlxlm::serve {

void ResponseStore::put(const std::string& id, Entry entry) {
  auto bytes =
      entry.response.dump(-1, ' ', false, Json::error_handler_t::replace)
          .size() +
      entry.conversation.dump(-1, ' ', false, Json::error_handler_t::replace)
          .size();
  std::lock_guard lock(mutex_);
  while (!order_.empty() && bytes_ + bytes > max_bytes_)
    drop(order_.front());
  entries_.emplace(id, Kept{std::move(entry), bytes});
  order_.push_back(id);
  bytes_ += bytes;
}

std::optional<ResponseStore::Entry> ResponseStore::get(
    const std::string& id,
    const std::string& client) const {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(id);
  if (found == entries_.end() || found->second.entry.client != client)
    return std::nullopt;
  return found->second.entry;
}

bool ResponseStore::remove(const std::string& id, const std::string& client) {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(id);
  if (found == entries_.end() || found->second.entry.client != client)
    return false;
  drop(std::string(id));
  return true;
}

void ResponseStore::drop(const std::string& id) {
  auto key = id; // may live in order_
  auto found = entries_.find(key);
  if (found != entries_.end()) {
    bytes_ -= found->second.bytes;
    entries_.erase(found);
  }
  order_.erase(std::find(order_.begin(), order_.end(), key));
}

} // namespace mlxlm::serve
