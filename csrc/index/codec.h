// What a stage of an index stores of each row: the words of a spec such as "B1+U8+F32".
#pragma once

#include <string>
#include <vector>

#include "tessella/scalar.h"
#include "tessella/types.h"

namespace tessella {

struct Codec {
  enum class Kind { kRaw, kB1, kScalar, kPq };
  Kind kind;
  ScalarType type = ScalarType::kF32;      // raw
  int bits = 0;                            // scalar, pq
  ScalarGrid grid = ScalarGrid::kUniform;  // scalar
  std::size_t pieces = 0;                  // pq: of each level
  std::size_t levels = 1;                  // pq: residual ones
  bool rotated = false;                    // pq: OPQ
  bool anisotropic = false;                // pq: ScaNN's loss
  std::string name;

  // "F32" "F16" "BF16" "UINT8" | "B1" | "PQ48" "PQ96x4" "OPQ48" "APQ48" "PRQ48x2x8" … | "U8" "N4" "R2".."R8"; throws
  // InvalidArgument otherwise.
  static Codec parse(const std::string& name);
};

// A scan codec, then at most one refining codec, then at most one raw one. Throws InvalidArgument.
std::vector<Codec> parse_codecs(const std::vector<std::string>& names);

}  // namespace tessella
