// Which of Highway's targets a source goes without, for HWY_DISABLED_TARGETS
// before <hwy/foreach_target.h>. Each target costs the source's compile time
// once more.
#pragma once

#include <hwy/detect_targets.h>

// Each source says its own.
#undef HWY_DISABLED_TARGETS

// Newer than some of the Highways we build with.
#ifdef HWY_AVX3_ZEN4
#define MLXLM_AVX3_ZEN4 HWY_AVX3_ZEN4
#else
#define MLXLM_AVX3_ZEN4 0
#endif
#ifdef HWY_AVX3_SPR
#define MLXLM_AVX3_SPR HWY_AVX3_SPR
#else
#define MLXLM_AVX3_SPR 0
#endif

// x86: what gains little over its neighbours. Processors between SSE2 and AVX2
// multiply matrices by portable code anyway.
#define MLXLM_NEEDLESS_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | MLXLM_AVX3_ZEN4 | MLXLM_AVX3_SPR)
// Vectors whose length the compiler does not know.
#define MLXLM_SCALABLE_TARGETS \
  (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
