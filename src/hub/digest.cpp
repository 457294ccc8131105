// FIPS 180-4.
#include "hub/digest.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "hub/sha256_block.h"

namespace mlxlm::hub {
namespace {

void sha1_blocks(std::uint32_t* state, const std::byte* data, std::size_t n) {
  for (; n > 0; --n, data += 64) {
    std::uint32_t w[80];
    for (int i = 0; i < 16; ++i)
      w[i] = big_endian(data + 4 * i);
    for (int i = 16; i < 80; ++i)
      w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    auto a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 80; ++i) {
      std::uint32_t f, k;
      if (i < 20)
        f = (b & c) | (~b & d), k = 0x5a827999;
      else if (i < 40)
        f = b ^ c ^ d, k = 0x6ed9eba1;
      else if (i < 60)
        f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
      else
        f = b ^ c ^ d, k = 0xca62c1d6;
      auto next = std::rotl(a, 5) + f + e + k + w[i];
      e = d, d = c, c = std::rotl(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
  }
}

using Blocks = void (*)(std::uint32_t*, const std::byte*, std::size_t);

// What both have in common: 64-byte blocks, a 64-bit length at the end.
template <std::size_t Words>
class BlockDigest final : public Digest {
 public:
  BlockDigest(std::array<std::uint32_t, Words> state, Blocks blocks)
      : state_(state), blocks_(blocks) {}

  void update(std::span<const std::byte> bytes) override {
    length_ += bytes.size();
    if (held_ > 0) {
      auto n = std::min(bytes.size(), 64 - held_);
      std::memcpy(block_ + held_, bytes.data(), n);
      held_ += n;
      bytes = bytes.subspan(n);
      if (held_ < 64) return;
      blocks_(state_.data(), block_, 1);
      held_ = 0;
    }
    blocks_(state_.data(), bytes.data(), bytes.size() / 64);
    held_ = bytes.size() % 64;
    if (held_ > 0)
      std::memcpy(block_, bytes.data() + bytes.size() - held_, held_);
  }

  std::string finish() override {
    std::array<std::byte, 72> end{std::byte{0x80}};
    std::uint64_t bits = 8 * length_;
    std::size_t zeros = (held_ < 56 ? 56 : 120) - held_;
    for (int i = 0; i < 8; ++i)
      end[zeros + i] = std::byte(bits >> (56 - 8 * i) & 0xff);
    update(std::span(end).first(zeros + 8));
    std::string out;
    for (auto word : state_)
      out += fmt::format("{:08x}", word);
    return out;
  }

 private:
  std::array<std::uint32_t, Words> state_;
  Blocks blocks_;
  std::byte block_[64];
  std::size_t held_ = 0; // bytes in block_
  std::uint64_t length_ = 0;
};

bool is_hex(std::string_view text, std::size_t length) {
  return text.size() == length &&
      text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

} // namespace

std::unique_ptr<Digest> make_sha256() {
  return std::make_unique<BlockDigest<8>>(
      std::array<std::uint32_t, 8>{
          0x6a09e667,
          0xbb67ae85,
          0x3c6ef372,
          0xa54ff53a,
          0x510e527f,
          0x9b05688c,
          0x1f83d9ab,
          0x5be0cd19},
      sha256_blocks());
}

std::unique_ptr<Digest> make_sha1() {
  return std::make_unique<BlockDigest<5>>(
      std::array<std::uint32_t, 5>{
          0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0},
      sha1_blocks);
}

bool is_sha256(std::string_view name) {
  return is_hex(name, 64);
}

bool is_git_id(std::string_view name) {
  return is_hex(name, 40);
}

std::unique_ptr<Digest> digest_for(std::string_view name, std::uint64_t size) {
  if (is_sha256(name)) return make_sha256();
  auto digest = make_sha1();
  auto head = fmt::format("blob {}", size);
  head += '\0';
  digest->update(std::as_bytes(std::span(head)));
  return digest;
}

} // namespace mlxlm::hub
