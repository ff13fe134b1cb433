// One small pool of threads for the whole process. No OpenMP, so no quarrel with PyTorch's.
#pragma once

#include <cstddef>
#include <functional>

namespace tessella {

// Threads a call uses when it does not say; at first the CPUs this process may run on. Throws on 0.
std::size_t num_threads();
void set_num_threads(std::size_t threads);

// Runs work(i) for every i in [0, tasks) on the caller and up to threads-1 helpers. Safe from many threads at once and
// after fork(). The first exception is rethrown once all started tasks have ended; tasks not yet started are dropped.
void parallel_for(std::size_t tasks, std::size_t threads, const std::function<void(std::size_t)>& work);

}  // namespace tessella
