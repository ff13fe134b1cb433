// csrc/cuda/device/copy.h for the emulator: a copy arrives when its group is waited for, and not a moment before.
#pragma once

#include <cuda_runtime.h>

namespace tessella::cuda {

inline void copy_async(void* to, const void* from, bool valid, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0 || reinterpret_cast<std::uintptr_t>(from) % 16 != 0) {
    ::simt::fail("an asynchronous copy from or to an address not divisible by 16", file, line);
  }
  ::simt::running->copies.back().push_back({to, from, valid ? 16u : 0u, valid ? 0u : 16u});
}

inline void commit_copies() { ::simt::running->copies.emplace_back(); }

template <int kPending>
inline void wait_copies() {
  auto& groups = ::simt::running->copies;
  while (groups.size() > kPending + 1) {  // the last group is still open
    for (const auto& copy : groups.front()) {
      std::memcpy(copy.to, copy.from, copy.bytes);
      std::memset(static_cast<char*>(copy.to) + copy.bytes, 0, copy.zeros);
    }
    groups.erase(groups.begin());
  }
}

}  // namespace tessella::cuda
