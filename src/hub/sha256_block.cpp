// The rounds of FIPS 180-4, 6.2.2; the SHA extensions of x86 and Arm do four at
// a time.
#include "hub/sha256_block.h"

#include <bit>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

namespace mlxlm::hub {
namespace {

alignas(64) constexpr std::uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
    0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
    0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

#if defined(__x86_64__)

// Rounds 4i to 4i+3 with words `m` of the schedule.
__attribute__((target("sha,sse4.1"))) inline void four_rounds(
    __m128i& abef,
    __m128i& cdgh,
    __m128i m,
    int i) {
  auto k = _mm_load_si128(reinterpret_cast<const __m128i*>(constants + 4 * i));
  auto sum = _mm_add_epi32(m, k);
  cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
  abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
}

// The next four words of the schedule from the last sixteen.
__attribute__((target("sha,sse4.1"))) inline __m128i next_words(
    __m128i a,
    __m128i b,
    __m128i c,
    __m128i d) {
  auto sum =
      _mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8(d, c, 4));
  return _mm_sha256msg2_epu32(sum, d);
}

__attribute__((target("sha,sse4.1"))) void sha256_blocks_x86(
    std::uint32_t* state,
    const std::byte* data,
    std::size_t n) {
  const auto swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  auto* words = reinterpret_cast<__m128i*>(state);
  // The instructions want the state as ABEF and CDGH.
  auto low = _mm_shuffle_epi32(_mm_loadu_si128(words), 0xb1);
  auto high = _mm_shuffle_epi32(_mm_loadu_si128(words + 1), 0x1b);
  auto abef = _mm_alignr_epi8(low, high, 8);
  auto cdgh = _mm_blend_epi16(high, low, 0xf0);
  for (; n > 0; --n, data += 64) {
    auto abef_before = abef, cdgh_before = cdgh;
    __m128i w[4];
    for (int i = 0; i < 4; ++i) {
      auto* at = reinterpret_cast<const __m128i*>(data) + i;
      w[i] = _mm_shuffle_epi8(_mm_loadu_si128(at), swap);
      four_rounds(abef, cdgh, w[i], i);
    }
    for (int i = 4; i < 16; ++i) {
      auto next = next_words(w[0], w[1], w[2], w[3]);
      w[0] = w[1], w[1] = w[2], w[2] = w[3], w[3] = next;
      four_rounds(abef, cdgh, next, i);
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  low = _mm_shuffle_epi32(abef, 0x1b);
  high = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128(words, _mm_blend_epi16(low, high, 0xf0));
  _mm_storeu_si128(words + 1, _mm_alignr_epi8(high, low, 8));
}

bool has_sha_extensions() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b >> 29 & 1) == 0)
    return false;
  return __builtin_cpu_supports("sse4.1");
}

#elif defined(__aarch64__)

#if defined(__clang__)
#define MLXLM_SHA2 __attribute__((target("sha2")))
#else
#define MLXLM_SHA2 __attribute__((target("+crypto")))
#endif

MLXLM_SHA2 void sha256_blocks_arm(
    std::uint32_t* state,
    const std::byte* data,
    std::size_t n) {
  auto low = vld1q_u32(state), high = vld1q_u32(state + 4);
  for (; n > 0; --n, data += 64) {
    auto low_before = low, high_before = high;
    uint32x4_t w[4];
    for (int i = 0; i < 4; ++i) {
      auto* at = reinterpret_cast<const std::uint8_t*>(data) + 16 * i;
      w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(at)));
    }
    for (int i = 0; i < 16; ++i) {
      auto sum = vaddq_u32(w[0], vld1q_u32(constants + 4 * i));
      auto next = vsha256su1q_u32(vsha256su0q_u32(w[0], w[1]), w[2], w[3]);
      w[0] = w[1], w[1] = w[2], w[2] = w[3], w[3] = next;
      auto before = low;
      low = vsha256hq_u32(low, high, sum);
      high = vsha256h2q_u32(high, before, sum);
    }
    low = vaddq_u32(low, low_before);
    high = vaddq_u32(high, high_before);
  }
  vst1q_u32(state, low);
  vst1q_u32(state + 4, high);
}

bool has_sha_extensions() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_SHA2) != 0;
#else
  return true; // every Apple processor
#endif
}

#endif

} // namespace

void sha256_blocks_plain(
    std::uint32_t* state,
    const std::byte* data,
    std::size_t n) {
  for (; n > 0; --n, data += 64) {
    std::uint32_t w[64];
    for (int i = 0; i < 16; ++i)
      w[i] = big_endian(data + 4 * i);
    for (int i = 16; i < 64; ++i) {
      auto x = w[i - 15], y = w[i - 2];
      auto s0 = std::rotr(x, 7) ^ std::rotr(x, 18) ^ x >> 3;
      auto s1 = std::rotr(y, 17) ^ std::rotr(y, 19) ^ y >> 10;
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    std::uint32_t v[8];
    for (int i = 0; i < 8; ++i)
      v[i] = state[i];
    for (int i = 0; i < 64; ++i) {
      auto [a, b, c, d, e, f, g, h] = v;
      auto s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      auto s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      auto t = h + s1 + ((e & f) ^ (~e & g)) + constants[i] + w[i];
      auto u = s0 + ((a & b) ^ (a & c) ^ (b & c));
      for (int j = 7; j > 0; --j)
        v[j] = v[j - 1];
      v[4] += t;
      v[0] = t + u;
    }
    for (int i = 0; i < 8; ++i)
      state[i] += v[i];
  }
}

Sha256Blocks sha256_blocks() {
#if defined(__x86_64__)
  static const bool fast = has_sha_extensions();
  if (fast) return sha256_blocks_x86;
#elif defined(__aarch64__)
  static const bool fast = has_sha_extensions();
  if (fast) return sha256_blocks_arm;
#endif
  return sha256_blocks_plain;
}

} // namespace mlxlm::hub
