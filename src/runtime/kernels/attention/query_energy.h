// What queries weigh, as begin_page (key_center.h) asks it: mean squares of the
// queries of a page's first token that share a key head, [k_dim]. A page of
// floats that may be packed later on keeps them behind its rows.
#pragma once

#include <cstddef>

#include "runtime/kernels/attention/page_layout.h"

namespace mlxlm::kernels {

// energy: null where the queries are not known.
void keep_query_energy(
    const PageLayout& layout,
    std::byte* layer,
    int head,
    const float* energy);
// Whether they are known.
bool kept_query_energy(
    const PageLayout& layout,
    const std::byte* layer,
    int head,
    float* energy);

} // namespace mlxlm::kernels
