// What the emulated families share behind their C functions, which each return 0, or 1 with a message in `error`.
#pragma once

#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>

namespace simt {

constexpr std::size_t kErrorBytes = 512;

// Scratch of exactly the promised size, full of NaN bytes: whoever counts on zeros or on more room is found out.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes)
      : memory_(static_cast<char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64 + 64)), &std::free) {
    std::memset(memory_.get(), 0xff, (bytes + 63) / 64 * 64 + 64);
  }
  void* data() { return memory_.get(); }

 private:
  std::unique_ptr<char, decltype(&std::free)> memory_;
};

template <class Body>
int guarded(char* error, const Body& body) {
  try {
    body();
    return 0;
  } catch (const std::exception& problem) {
    std::strncpy(error, problem.what(), kErrorBytes - 1);
    error[kErrorBytes - 1] = '\0';
    return 1;
  }
}

}  // namespace simt
