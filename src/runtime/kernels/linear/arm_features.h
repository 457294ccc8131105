// What an ARM processor can do beyond its base instructions.
#pragma once

#if defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>

#include <cstddef>
#endif

namespace mlxlm::kernels {

#if defined(__linux__)
// The bits of Linux's <asm/hwcap.h>, which older headers lack in part.
inline bool has_dot_products() {
  return (getauxval(AT_HWCAP) >> 20 & 1) != 0; // HWCAP_ASIMDDP
}
inline bool has_byte_matrices() {
  return (getauxval(AT_HWCAP2) >> 13 & 1) != 0; // HWCAP2_I8MM
}
#else
inline bool arm_feature(const char* name) {
#if defined(__APPLE__)
  int value = 0;
  std::size_t size = sizeof(value);
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
#else
  return false;
#endif
}
inline bool has_dot_products() {
  return arm_feature("hw.optional.arm.FEAT_DotProd");
}
inline bool has_byte_matrices() {
  return arm_feature("hw.optional.arm.FEAT_I8MM");
}
#endif

} // namespace mlxlm::kernels
#endif
