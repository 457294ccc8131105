// One pool of threads for the CPU kernels of the whole process.
#pragma once

#include <functional>

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

} // namespace mlxlm
