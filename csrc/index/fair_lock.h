// Many readers or one writer, in order of arrival: a stream of searches cannot starve an add.
#pragma once

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
    return std::unique_lock(lock_);
  }

 private:
  std::mutex gate_;
  std::shared_mutex lock_;
};

}  // namespace tessella
