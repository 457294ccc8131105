// The last events, for any number of readers without a lock: the one writer
// never waits, and a reader sees a whole event or knows that it was lost.
// Each slot carries a version, odd while it is written (a seqlock whose words
// are atomics: who reads one of the new words also sees the odd version).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace mlxlm {

template <typename T, std::size_t size>
class EventRing {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  // One writer at a time. The first event is number 1.
  void push(const T& value) {
    auto number = last_.load(std::memory_order_relaxed) + 1;
    auto& slot = slots_[number % size];
    slot.version.store(2 * number - 1, std::memory_order_relaxed);
    Words words{};
    std::memcpy(words.data(), &value, sizeof value);
    for (std::size_t i = 0; i < words.size(); ++i)
      slot.words[i].store(words[i], std::memory_order_release);
    slot.version.store(2 * number, std::memory_order_release);
    last_.store(number, std::memory_order_release);
  }

  std::uint64_t last() const {
    return last_.load(std::memory_order_acquire);
  }

  // False: event `number`, not after last(), has been written over.
  bool read(std::uint64_t number, T& value) const {
    const auto& slot = slots_[number % size];
    if (slot.version.load(std::memory_order_acquire) != 2 * number)
      return false;
    Words words;
    for (std::size_t i = 0; i < words.size(); ++i)
      words[i] = slot.words[i].load(std::memory_order_acquire);
    if (slot.version.load(std::memory_order_relaxed) != 2 * number)
      return false;
    std::memcpy(&value, words.data(), sizeof value);
    return true;
  }

 private:
  using Words = std::array<std::uint64_t, (sizeof(T) + 7) / 8>;
  struct Slot {
    std::atomic<std::uint64_t> version{0};
    std::array<std::atomic<std::uint64_t>, (sizeof(T) + 7) / 8> words{};
  };
  std::array<Slot, size> slots_;
  std::atomic<std::uint64_t> last_{0};
};

} // namespace mlxlm
