#include "mlxlm/version.h"

#include <mlx/device.h>
#include <mlx/version.h>

#include "mlxlm/model.h"

namespace mlxlm {

std::string version() {
  return MLXLM_VERSION;
}

std::string engine_version() {
  return mlx::core::version();
}

std::string device() {
  if (mlx::core::default_device() == mlx::core::Device::cpu) return "cpu";
#ifdef __APPLE__
  return "metal";
#else
  return "cuda";
#endif
}

} // namespace mlxlm
