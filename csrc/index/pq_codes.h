// PQ codes of an index's rows: what codebooks make them, and how they lie in blocks (tessella/pq.h).
//
// Residual levels (Chen, Guan & Wang, 2010) each quantize what those before them left. A row's code is that of its
// levels, one behind another, and to a scan they are pieces like any others. Under L2 a sum over levels is no distance:
// there tables hold inner products, and each row has |decoded|^2 as its term.
#pragma once

#include <span>
#include <vector>

#include "index/codec.h"
#include "tessella/kernels.h"

namespace tessella {

// Codebooks, learnt elsewhere.
struct PqModel {
  std::vector<float> codebooks;  // (levels, m, d/m, 2^bits)
  std::vector<float> biases;     // (levels, m, 2^bits)
  std::vector<float> rotation;   // (d, d), or nothing
  std::vector<float> back;       // its transpose
  float error = 0.0f;            // root mean square of a decoded row's error, a dimension
  float bias = 0.0f;             // by so much, of themselves, inner products come out too small where they are large
};

// Codes of rows on their way in.
struct PqCodes {
  std::vector<std::uint8_t> bytes;  // (n, code bytes)
  std::vector<float> terms;         // (n), or nothing
};

class PqShape {
 public:
  // Throws InvalidArgument where the codec does not suit the rows.
  PqShape(const Codec& codec, std::size_t dim, Metric metric);

  int bits() const { return codec_.bits; }
  bool terms() const { return codec_.levels > 1 && metric_ == Metric::kL2; }
  std::size_t pieces() const { return codec_.levels * level_pieces(); }  // of a query's table
  std::size_t code_bytes() const { return codec_.levels * level_bytes(); }
  std::size_t block_bytes() const { return pq_block_bytes(pieces(), codec_.bits, terms()); }

  // Whether codebooks and rotation have the sizes that the codec wants.
  bool fits(const PqModel& model) const;
  // Biases and the transpose, from what else there is.
  void complete(PqModel& model) const;

  PqCodes room(std::size_t n) const;
  // Codes of rows (n, d) -> codes [first, first + n).
  void encode(const Kernels& kernels, const PqModel& model, const float* rows, std::size_t n, PqCodes& codes,
              std::size_t first) const;
  void decode(const Kernels& kernels, const PqModel& model, const std::uint8_t* block, std::size_t lane,
              float* out) const;
  // A query's table (pieces, 2^bits).
  void table(const Kernels& kernels, const PqModel& model, const float* query, float* out) const;

  void put(std::uint8_t* block, std::size_t lane, const PqCodes& codes, std::size_t i) const;
  // Copies a lane of one block into a lane of another, or of the same.
  void move(const std::uint8_t* from, std::size_t out, std::uint8_t* to, std::size_t in) const;

 private:
  std::size_t words() const { return std::size_t{1} << codec_.bits; }
  std::size_t level_bytes() const { return pq_code_bytes(codec_.pieces, codec_.bits); }
  // At 4 bits each of several levels begins a byte of its own.
  std::size_t level_pieces() const { return codec_.levels > 1 ? level_bytes() * 8 / codec_.bits : codec_.pieces; }
  std::span<const float> codebooks(const PqModel& model, std::size_t level) const;
  std::size_t word(const std::uint8_t* code, std::size_t stride, std::size_t level, std::size_t piece) const;
  void add_decoded(const PqModel& model, const std::uint8_t* code, std::size_t stride, std::size_t level, float sign,
                   float* row) const;
  void encode_level(const Kernels& kernels, const PqModel& model, std::size_t level, const float* rows, std::size_t n,
                    std::uint8_t* codes, void* scratch) const;
  void encode_levels(const Kernels& kernels, const PqModel& model, const float* rows, std::size_t n, PqCodes& codes,
                     std::size_t first, void* scratch) const;
  std::size_t scratch_bytes(const Kernels& kernels) const;

  Codec codec_;
  std::size_t dim_;
  Metric metric_;
};

}  // namespace tessella
