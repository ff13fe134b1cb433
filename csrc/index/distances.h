// Squared distances between rows that a graph is built of.
#pragma once

#include <cstdint>
#include <vector>

#include "common/buffer.h"
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
};

// By their values.
class ValueDistances final : public Distances {
 public:
  ValueDistances(const Kernels& kernels, std::size_t padded) : kernels_(kernels), padded_(padded) {}
  void between(const Neighbour& one, const Neighbour* others, std::size_t count, float* out) const override;

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

 private:
  struct Factors { float scale, length2; };
  void round(const float* values, std::size_t row);
  const std::int8_t* bytes(std::size_t row) const {
    return reinterpret_cast<const std::int8_t*>(records_.data()) + row * stride_;
  }
  Factors factors(std::size_t row) const;

  const Kernels& kernels_;
  std::size_t padded_, stride_;
  AlignedBuffer records_;  // of each row its bytes and then its factors, which are read together
};

}  // namespace tessella
