// Squared distances between rows that a graph is built of.
#pragma once

#include <cstdint>
#include <vector>

#include "tessella/kernels.h"

namespace tessella {

// A row that may become a neighbour: its squared distance from the vertex, and its values.
struct Neighbour {
  float distance;
  std::uint32_t row;
  const float* values;
};

class Distances {
 public:
  virtual ~Distances() = default;
  // From one row to `count` others; the same number whichever of two rows is the one.
  virtual void between(const Neighbour& one, const Neighbour* others, std::size_t count, float* out) const = 0;
  // Asks for the memory that `between` will read.
  virtual void fetch(const Neighbour& one) const = 0;
};

// By their values.
class ValueDistances final : public Distances {
 public:
  ValueDistances(const Kernels& kernels, std::size_t padded) : kernels_(kernels), padded_(padded) {}
  void between(const Neighbour& one, const Neighbour* others, std::size_t count, float* out) const override;
  void fetch(const Neighbour& one) const override;

 private:
  const Kernels& kernels_;
  std::size_t padded_;
};

// By a byte a value, a fourth of the memory: for rows that an index keeps as codes of 8 bits or fewer, and so tells
// apart no better. Copies are at distance 0.
class ByteDistances final : public Distances {
 public:
  // values (n, padded); `row` of a neighbour counts these.
  ByteDistances(const Kernels& kernels, const float* values, std::size_t n, std::size_t padded, std::size_t threads);
  void between(const Neighbour& one, const Neighbour* others, std::size_t count, float* out) const override;
  void fetch(const Neighbour& one) const override;

 private:
  void round(const float* values, std::size_t row);

  const Kernels& kernels_;
  std::size_t padded_;
  std::vector<std::int8_t> bytes_;  // (n, padded)
  std::vector<float> scales_, lengths2_;
};

}  // namespace tessella
