#include "disk/store.h"

#include <algorithm>

#include "core/check.h"
#include "disk/index.h"

namespace mlxlm::disk {
namespace {

// Notes of use that wait; more are forgotten, for they only say what goes
// first.
constexpr std::size_t most_notes = 4096;

std::int64_t now_in_microseconds() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

} // namespace

Store::Store(StoreOptions options)
    : options_(std::move(options)), folder_(options_.folder) {
  if (options_.owner.size() > most_owner_bytes)
    fail(
        ErrorKind::internal,
        "disk store",
        "expected an owner of at most {} bytes, found {}",
        most_owner_bytes,
        options_.owner.size());
  thread_ = std::thread([this] { run(); });
}

Store::~Store() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::string Store::name(const Key& key) const {
  return EntryFolder::name(key, options_.owner);
}

bool Store::put(const Key& key, Bytes payload) {
  bool there = folder_.has(name(key));
  {
    std::lock_guard lock(mutex_);
    if (pending_.count(key)) return true;
  }
  if (!there) return queue(key, std::move(payload));
  note(key, false);
  return true;
}

bool Store::replace(const Key& key, Bytes payload) {
  return queue(key, std::move(payload));
}

bool Store::queue(const Key& key, Bytes payload) {
  std::lock_guard lock(mutex_);
  auto room = options_.max_queue_bytes - pending_bytes_;
  bool takes = payload.size() <= room && payload.size() < options_.max_bytes &&
      Clock::now() >= resumes_;
  if (!takes) {
    ++figures_.dropped;
    return false;
  }
  pending_bytes_ += payload.size();
  auto shared = std::make_shared<const Bytes>(std::move(payload));
  pending_[key] = shared;
  queue_.push_back({key, std::move(shared)});
  changed_.notify_all();
  return true;
}

std::optional<Store::Bytes> Store::get(const Key& key) {
  {
    std::lock_guard lock(mutex_);
    auto it = pending_.find(key);
    if (it != pending_.end()) {
      ++figures_.hits;
      return *it->second;
    }
  }
  auto file = folder_.read(name(key), options_.max_bytes);
  auto entry = file ? parse_entry(*file) : std::nullopt;
  bool good = entry && entry->key == key && entry->owner == options_.owner;
  {
    std::lock_guard lock(mutex_);
    ++(good ? figures_.hits : figures_.misses);
  }
  if (file) note(key, !good);
  if (!good) return std::nullopt;
  auto head = file->size() - entry->payload.size();
  file->erase(file->begin(), file->begin() + static_cast<std::ptrdiff_t>(head));
  return file;
}

bool Store::has(const Key& key) const {
  {
    std::lock_guard lock(mutex_);
    if (pending_.count(key)) return true;
  }
  return folder_.has(name(key));
}

void Store::note(const Key& key, bool gone) {
  std::lock_guard lock(mutex_);
  if (!gone && queue_.size() >= most_notes) return;
  queue_.push_back({key, nullptr, gone});
  changed_.notify_all();
}

void Store::flush() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return queue_.empty() && !busy_; });
}

StoreFigures Store::figures() const {
  std::lock_guard lock(mutex_);
  auto figures = figures_;
  figures.writing = Clock::now() >= resumes_;
  return figures;
}

// ---- the thread that writes
void Store::run() {
  folder_.sweep();
  Index index(folder_);
  index.reconcile();
  make_room(index, 0);
  std::unique_lock lock(mutex_);
  for (;;) {
    lock.unlock();
    auto bytes = index.bytes(), entries = index.entries();
    lock.lock();
    figures_.bytes = bytes;
    figures_.entries = entries;
    busy_ = false;
    changed_.notify_all();
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    busy_ = true;
    while (!queue_.empty()) {
      auto task = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      work(index, task);
      lock.lock();
      if (!task.payload) continue;
      pending_bytes_ -= task.payload->size();
      auto it = pending_.find(task.key);
      if (it != pending_.end() && it->second == task.payload)
        pending_.erase(it);
    }
  }
}

void Store::work(Index& index, const Task& task) {
  auto name = this->name(task.key);
  if (!task.payload) {
    if (!task.gone) return index.touch(name, now_in_microseconds());
    folder_.remove(name);
    return index.remove(name);
  }
  {
    std::lock_guard lock(mutex_);
    if (Clock::now() < resumes_) {
      ++figures_.dropped;
      return;
    }
  }
  Entry entry{task.key, options_.owner, *task.payload};
  auto size = entry_head(entry).size() + task.payload->size();
  bool written = make_room(index, size) && folder_.write(name, entry);
  if (!written) return refused();
  index.add(name, size, now_in_microseconds());
  std::lock_guard lock(mutex_);
  ++figures_.written;
}

// Lets go of what was used least recently. False: it will never fit.
bool Store::make_room(Index& index, std::uint64_t bytes) {
  if (bytes > options_.max_bytes) return false;
  std::string last;
  while (index.bytes() > options_.max_bytes - bytes) {
    auto name = index.oldest();
    if (name.empty() || name == last) break; // an index that forgets nothing
    last = name;
    folder_.remove(name);
    index.remove(name);
    std::lock_guard lock(mutex_);
    ++figures_.evicted;
  }
  return true;
}

// Full or broken: nothing is tried for a while.
void Store::refused() {
  std::lock_guard lock(mutex_);
  ++figures_.failures;
  resumes_ = Clock::now() + options_.pause;
}

} // namespace mlxlm::disk
