// Many readers or one writer, in order of arrival: a stream of searches cannot starve an add.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <shared_mutex>

namespace tessella {

class FairLock {
 public:
  std::shared_lock<std::shared_mutex> read() {
    const std::lock_guard turn(gate_);
    return std::shared_lock(lock_);
  }
  std::unique_lock<std::shared_mutex> write() {
    const std::lock_guard turn(gate_);
    std::unique_lock held(lock_);
    state_ = next_state();
    return held;
  }
  // Another number after every writer, in the whole process: what was found out under one holds while it is the same.
  // To be asked by whoever holds the lock.
  std::uint64_t state() const { return state_; }

 private:
  static std::uint64_t next_state() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
  }

  std::uint64_t state_ = next_state();
  std::mutex gate_;
  std::shared_mutex lock_;
};

}  // namespace tessella
