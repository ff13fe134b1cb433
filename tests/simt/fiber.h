// A fiber: a function with a stack of its own that can stop in the middle and be continued. One fiber of the
// emulator is one CUDA thread. Everything runs on the caller's thread; nothing here is safe from two threads.
#pragma once

#include <cstddef>
#include <memory>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace simt {

class Fiber {
 public:
  Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Prepares a fresh run of `body(argument)`; whatever an unfinished run left on the stack is forgotten.
  void reset(void (*body)(void*), void* argument);
  // From outside: runs until the body calls stop() or ends.
  void resume();
  // From inside: back to whoever resumed.
  void stop();
  bool ended() const { return ended_; }

 private:
  static constexpr std::size_t kStackBytes = 256 * 1024;
  static void start();
  void switch_in();
  void switch_out();

  std::unique_ptr<char[]> stack_;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  bool ended_ = true;
#if defined(__x86_64__)
  void* own_ = nullptr;  // stack pointers of whoever does not run
  void* caller_ = nullptr;
#else
  ucontext_t own_;
  ucontext_t caller_;
#endif
  void* fake_stack_ = nullptr;  // the address sanitizer's bookkeeping
};

}  // namespace simt
