// The bytes of an entry's file, little-endian:
//
//   magic "mlxlm-e1" | owner size u32 | 0 u32 | payload size u64 | key [32]
//   | checksum of the payload u64 | owner | checksum of all that u64 | payload
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxlm::disk {

// A hash of what an entry is for: chosen by whoever stores it.
using Key = std::array<std::byte, 32>;

struct Entry {
  Key key;
  std::string_view owner; // who can use it: a model's fingerprint
  std::span<const std::byte> payload;
};

constexpr std::size_t most_owner_bytes = 4096;

// What stands before the payload.
std::vector<std::byte> entry_head(const Entry& entry);
// Nothing unless every byte is as entry_head would have it. The result points
// into `file`.
std::optional<Entry> parse_entry(std::span<const std::byte> file);

// 64 characters, 0 to 9 and a to f.
std::string hex(const Key& key);

} // namespace mlxlm::disk
