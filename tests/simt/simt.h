// A small SIMT emulator: runs CUDA kernels, compiled as plain C++, on the CPU. One fiber per CUDA thread; a thread runs
// until it has to meet others, so results do not depend on timing, and the order of threads can be chosen to bring
// out missing barriers. Made for tests of csrc/cuda; it knows what that code uses.
//
// What it notices, as an exception from the launch that names the kernel's source line:
//   threads that wait at different barriers, or for a thread that has ended; warp words whose lanes do not come;
//   reads from lanes outside the mask; launches that a device would refuse (threads, shared memory).
// Shared memory starts full of NaN bytes and ends where the launch said (the address sanitizer sees a byte beyond);
// asynchronous copies arrive at the wait and not before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace simt {

struct Index { unsigned x = 1, y = 1, z = 1; };

enum class Scope { kBlock, kWarp };

// Threads that meet each bring a pointer; the last to come does the work for all: mine[i] belongs to thread i of the
// block, or to lane i of the warp (nullptr outside the mask).
using Work = void (*)(void* const* mine, unsigned count);

struct Meeting {
  Scope scope;
  unsigned mask;  // of lanes
  void* mine;
  Work work;
  const char* file;
  int line;
};

struct PendingCopy {
  void* to;
  const void* from;
  std::size_t bytes, zeros;
};

// The state of one CUDA thread.
struct Thread {
  Index thread, block, block_size, grid_size;
  bool waiting = false;
  Meeting meeting{};
  std::vector<std::vector<PendingCopy>> copies;  // groups, oldest first; the last one is open
};

extern Thread* running;           // the thread whose code is being executed
extern std::byte* shared_memory;  // of the block being executed

void meet(const Meeting& meeting);

struct Config {
  Index grid, block;
  std::size_t shared_bytes;
};
void run(const Config& config, const std::function<void()>& kernel);

// Threads and blocks are taken forward (0), backward (1), or shuffled anew in each round by that seed (2 and more).
void set_order(unsigned order);

inline unsigned lane() { return running->thread.x % 32; }

// meet() with types: Finish is a lambda without captures that takes (T* const* mine, unsigned count).
template <class T, class Finish>
void together(Scope scope, unsigned mask, T& mine, Finish, const char* file, int line) {
  const Work work = [](void* const* all, unsigned count) { Finish{}(reinterpret_cast<T* const*>(all), count); };
  meet({scope, mask, &mine, work, file, line});
}

[[noreturn]] void fail(const std::string& what, const char* file, int line);

}  // namespace simt
