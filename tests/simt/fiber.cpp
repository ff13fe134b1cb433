#include "fiber.h"

#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Saves what the calling convention asks a function to keep, changes the stack, and loads the same from there. The
// library's swapcontext would enter the kernel for the signal mask, thirty times slower.
extern "C" void simt_switch_stack(void** from, void* to);
asm(R"(
  .text
  .globl simt_switch_stack
  .hidden simt_switch_stack
  .type simt_switch_stack, @function
simt_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size simt_switch_stack, .-simt_switch_stack
)");
#endif

namespace simt {

namespace {

Fiber* entering = nullptr;  // the fiber that resume() goes to

#if defined(__SANITIZE_ADDRESS__)
const void* caller_bottom = nullptr;  // the stack that resume() was called on
std::size_t caller_bytes = 0;
#endif

}  // namespace

Fiber::Fiber() : stack_(new char[kStackBytes]) {}

void Fiber::start() {
  Fiber& self = *entering;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &caller_bottom, &caller_bytes);
#endif
  self.body_(self.argument_);
  self.ended_ = true;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, caller_bottom, caller_bytes);
#endif
  self.switch_out();
}

void Fiber::reset(void (*body)(void*), void* argument) {
  body_ = body;
  argument_ = argument;
  ended_ = false;
  fake_stack_ = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_.get() + kStackBytes - 8192, 8192);  // frames of start(), which never returns
#endif
#if defined(__x86_64__)
  const auto top = reinterpret_cast<std::uintptr_t>(stack_.get() + kStackBytes) / 16 * 16;
  auto* frame = reinterpret_cast<void**>(top) - 8;  // six registers, where to go, and no return address
  for (int i = 0; i < 8; ++i) frame[i] = nullptr;
  frame[6] = reinterpret_cast<void*>(&Fiber::start);
  own_ = frame;
#else
  getcontext(&own_);
  own_.uc_stack.ss_sp = stack_.get();
  own_.uc_stack.ss_size = kStackBytes;
  own_.uc_link = nullptr;
  makecontext(&own_, &Fiber::start, 0);
#endif
}

void Fiber::resume() {
  entering = this;
#if defined(__SANITIZE_ADDRESS__)
  void* caller_fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&caller_fake_stack, stack_.get(), kStackBytes);
  switch_in();
  __sanitizer_finish_switch_fiber(caller_fake_stack, nullptr, nullptr);
#else
  switch_in();
#endif
}

void Fiber::stop() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fake_stack_, caller_bottom, caller_bytes);
  switch_out();
  __sanitizer_finish_switch_fiber(fake_stack_, &caller_bottom, &caller_bytes);
#else
  switch_out();
#endif
}

#if defined(__x86_64__)
void Fiber::switch_in() { simt_switch_stack(&caller_, own_); }
void Fiber::switch_out() { simt_switch_stack(&own_, caller_); }
#else
void Fiber::switch_in() { swapcontext(&caller_, &own_); }
void Fiber::switch_out() { swapcontext(&own_, &caller_); }
#endif

}  // namespace simt
