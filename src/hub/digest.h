// SHA-256 and SHA-1 as the hub names files by them: a large file by the SHA-256
// of its bytes, a small one by its git blob id, SHA-1 of "blob SIZE\0" and the
// bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace mlxlm::hub {

class Digest {
 public:
  virtual ~Digest() = default;
  virtual void update(std::span<const std::byte> bytes) = 0;
  // Lower-case hex of everything so far; the digest is used up.
  virtual std::string finish() = 0;
};

std::unique_ptr<Digest> make_sha256();
std::unique_ptr<Digest> make_sha1();

// 64 lower-case hex digits: a SHA-256. 40: a git blob id. Other: neither.
bool is_sha256(std::string_view name);
bool is_git_id(std::string_view name);

// The digest whose result names a blob of `size` bytes; `name` tells which.
std::unique_ptr<Digest> digest_for(std::string_view name, std::uint64_t size);

} // namespace mlxlm::hub
