// XXH64: a fast checksum against accidents, not against attackers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mlxlm::disk {

std::uint64_t checksum(std::span<const std::byte> bytes);

} // namespace mlxlm::disk
