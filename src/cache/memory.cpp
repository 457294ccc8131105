// LayerCache's refusals and the ways to make a Memory.
#include "cache/memory.h"

#include "cache/paged_memory.h"
#include "core/check.h"

namespace mlxlm {

namespace {

[[noreturn]] void refuse(const char* what) {
  fail(
      ErrorKind::internal,
      "layer cache",
      "expected a call that fits the layer's spec and shapes, found {}",
      what);
}

} // namespace

mx::array LayerCache::attend(
    const Step&,
    const mx::array&,
    const mx::array&,
    const mx::array&,
    const AttendOptions&) {
  refuse("attend with keys and values");
}

mx::array LayerCache::attend(
    const Step&,
    const mx::array&,
    const AttendOptions&) {
  refuse("attend without keys");
}

mx::array LayerCache::attend_latent(
    const Step&,
    const mx::array&,
    const mx::array&,
    const AttendOptions&) {
  refuse("attend_latent");
}

mx::array LayerCache::keep(const Step&, const mx::array&) {
  refuse("keep");
}

mx::array LayerCache::kept(const Step&, int) {
  refuse("kept");
}

mx::array LayerCache::state(const Segment&, int) {
  refuse("state");
}

void LayerCache::set_state(const Segment&, int, mx::array) {
  refuse("set_state");
}

kernels::StatePlacesPtr LayerCache::places(const Step&, int) {
  return nullptr;
}

std::unique_ptr<Memory> make_memory(
    const std::vector<CacheSpec>& specs,
    const MemoryOptions& options) {
  return cache::make_paged_memory(specs, options);
}

} // namespace mlxlm
