// k-means' inner step, and that of every inverted file: the nearest centroid of each row.
//
// nearest = argmax over c of <x, c> - offset(c): offset |c|^2 / 2 makes it the smallest squared distance, no offsets
// the largest inner product (spherical k-means). Product and argmax are fused: no (n, k) matrix exists.
#pragma once

#include "tessella/types.h"

namespace tessella {

struct KmeansAssign {
  const float* rows;  // (n, d)
  std::size_t n;
  std::size_t d;
  const float* centroids;  // (k, d)
  const float* offsets;    // (k), or nullptr: none
  std::size_t k;           // 1 .. 2^32 - 1
  std::uint32_t* nearest;  // (n) out; of equally near centroids the one with the smaller number
  float* similarity;       // (n) out: <x, c> - offset of the nearest
  void* scratch;           // kmeans_assign_scratch(...) bytes, 64-byte aligned
  void* stream;            // CUDA stream; the CPU ignores it
};

// Products are summed in f32 by FMA, dimension after dimension in one sum, on every level and device: results are equal
// bit for bit. Cost: n*k*d multiply-adds. The centroids are packed anew at each call, so rows should come by the
// thousand.
using KmeansAssignFn = void (*)(const KmeansAssign&);
using KmeansScratchFn = std::size_t (*)(std::size_t n, std::size_t k, std::size_t d);

}  // namespace tessella
