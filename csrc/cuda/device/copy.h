// Copies from global to shared memory that do not pass through registers (cp.async, sm_80 on).
// The emulator has the same words in tests/simt/shadow.
#pragma once

#include <cuda_runtime.h>

namespace tessella::cuda {

// 16 bytes, both addresses divisible by 16, past the first-level cache; zeros where `valid` is false (`from` must
// then still be a legal pointer). Arrives by wait_copies; other threads see it after the next barrier.
__device__ inline void copy_async(void* to, const void* from, bool valid) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
}

// Closes a group of copies; an empty group is fine.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most kPending of this thread's groups are still under way.
template <int kPending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace tessella::cuda
