// One pool of threads for the CPU kernels of the whole process.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace mlxlm {

// Threads that kernels use, the caller's included. Default: physical cores'
// worth of what the process may use (affinity and cgroup quota respected).
int thread_count();
void set_thread_count(int threads);

// Runs body(i) for i in [0, count), each once, on the pool; returns when all
// have run. The caller takes part; called from inside a body it runs inline.
// `body` must not throw. Workers spin for some microseconds after a job, then
// sleep.
void parallel_for(int count, const std::function<void(int)>& body);

// Memory that a later job will read from its beginning on: threads that wait
// for work meanwhile fetch what comes first of it into their caches. Only a
// hint; the memory may be gone by then.
struct MemoryRange {
  const void* data;
  std::size_t bytes;
};
void read_ahead(const std::vector<MemoryRange>& ranges);

} // namespace mlxlm
