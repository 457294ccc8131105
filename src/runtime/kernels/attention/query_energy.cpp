// Queries' energies in pages of floats; see query_energy.h.
#include "runtime/kernels/attention/query_energy.h"

#include <cstring>

namespace mlxlm::kernels {

void keep_query_energy(
    const PageLayout& layout,
    std::byte* layer,
    int head,
    const float* energy) {
  if (!layout.energies) return;
  auto* to = layer + layout.energy_offset(head);
  constexpr float unknown = -1; // no mean of squares
  if (energy)
    std::memcpy(to, energy, layout.k_dim * sizeof(float));
  else
    std::memcpy(to, &unknown, sizeof unknown);
}

bool kept_query_energy(
    const PageLayout& layout,
    const std::byte* layer,
    int head,
    float* energy) {
  if (!layout.energies) return false;
  auto* from = layer + layout.energy_offset(head);
  std::memcpy(energy, from, layout.k_dim * sizeof(float));
  return energy[0] >= 0;
}

} // namespace mlxlm::kernels
