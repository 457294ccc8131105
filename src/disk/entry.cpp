#include "disk/entry.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "disk/checksum.h"

namespace mlxlm::disk {
namespace {

constexpr std::string_view magic = "mlxlm-e1";
constexpr std::size_t fixed = 8 + 4 + 4 + 8 + 32 + 8;

// Fills a buffer of known size from the front.
struct Writer {
  std::vector<std::byte> out;
  std::size_t at = 0;

  void add(std::span<const std::byte> bytes) {
    std::copy(bytes.begin(), bytes.end(), out.data() + at);
    at += bytes.size();
  }
  void add(std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i)
      out[at++] = static_cast<std::byte>(value >> (8 * i) & 255);
  }
};

std::uint64_t number(std::span<const std::byte> from, std::size_t at, int n) {
  std::uint64_t value = 0;
  for (int i = 0; i < n; ++i)
    value |= std::to_integer<std::uint64_t>(from[at + i]) << (8 * i);
  return value;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

} // namespace

std::vector<std::byte> entry_head(const Entry& entry) {
  MLXLM_CHECK(entry.owner.size() <= most_owner_bytes, "a short owner");
  auto owner = bytes_of(entry.owner);
  Writer w{std::vector<std::byte>(fixed + owner.size() + 8)};
  w.add(bytes_of(magic));
  w.add(owner.size(), 4);
  w.add(0, 4);
  w.add(entry.payload.size(), 8);
  w.add(entry.key);
  w.add(checksum(entry.payload), 8);
  w.add(owner);
  w.add(checksum(std::span(w.out).first(w.at)), 8);
  return std::move(w.out);
}

std::optional<Entry> parse_entry(std::span<const std::byte> file) {
  if (file.size() < fixed + 8) return std::nullopt;
  if (!std::ranges::equal(file.first(8), bytes_of(magic))) return std::nullopt;
  auto owner = number(file, 8, 4);
  auto payload = number(file, 16, 8);
  if (owner > most_owner_bytes || file.size() < fixed + owner + 8)
    return std::nullopt;
  auto head = fixed + owner;
  bool good = number(file, 12, 4) == 0 && file.size() - head - 8 == payload &&
      number(file, head, 8) == checksum(file.first(head));
  if (!good) return std::nullopt;
  Entry entry;
  std::copy_n(file.begin() + 24, entry.key.size(), entry.key.begin());
  entry.owner = {reinterpret_cast<const char*>(file.data()) + fixed, owner};
  entry.payload = file.subspan(head + 8);
  if (number(file, 56, 8) != checksum(entry.payload)) return std::nullopt;
  return entry;
}

std::string hex(const Key& key) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (auto byte : key) {
    out += digits[std::to_integer<int>(byte >> 4)];
    out += digits[std::to_integer<int>(byte & std::byte{15})];
  }
  return out;
}

} // namespace mlxlm::disk
