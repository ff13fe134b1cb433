// Test data: seeded numbers in buffers without spare room, so that the address sanitizer hears a tail that reads on.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>

#include "common/buffer.h"
#include "cpu/registry.h"
#include "tessella/kernels.h"

namespace data {

// `count` values that end where the allocation ends.
template <typename T>
class Tight {
 public:
  explicit Tight(std::size_t count) : count_(count), memory_(new T[count]()) {}
  T* get() { return memory_.get(); }
  const T* get() const { return memory_.get(); }
  T& operator[](std::size_t i) { return memory_[i]; }
  const T& operator[](std::size_t i) const { return memory_[i]; }
  std::size_t size() const { return count_; }
  bool operator==(const Tight& other) const {
    for (std::size_t i = 0; i < count_; ++i) {
      if (!(memory_[i] == other.memory_[i])) return false;
    }
    return count_ == other.count_;
  }

 private:
  std::size_t count_;
  std::unique_ptr<T[]> memory_;
};

inline Tight<float> normal(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> draw;
  Tight<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = draw(engine);
  return values;
}

inline Tight<std::uint8_t> bytes(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  Tight<std::uint8_t> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<std::uint8_t>(engine());
  return values;
}

inline bool close(float a, float b, float scale) { return std::fabs(a - b) <= 4e-6f * scale; }

inline const tessella::Kernels& level(const std::string& name) {
  tessella::cpu::pin_level(name);
  return tessella::cpu::active_kernels();
}

// Calls `body(kernels, scalar)` for the kernels of every level that this CPU can run, and leaves the active one as it
// was.
template <typename Body>
void for_levels(const Body& body) {
  const std::string before = tessella::cpu::active_kernels().level;
  for (const std::string& name : tessella::cpu::available_levels()) body(level(name), level("scalar"));
  tessella::cpu::pin_level(before);
}

}  // namespace data
