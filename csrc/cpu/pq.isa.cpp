// Product quantization: encoding, and the rotation before it. Tables and scans: pq_scan.isa.cpp.
//
// Encoding puts rows in the lanes and codewords in a register tile; products and argmax are fused, so no distances are
// stored. Everything that decides a code is an f32 sum by FMA in one order: codes are equal on every level.
#include "cpu/kernels.isa.h"
#include "simd/vec.h"

namespace tessella::TSL_LEVEL {

namespace {

constexpr std::size_t kVectors = 2;                    // row vectors of a tile
constexpr std::size_t kPanel = kVectors * kF32Lanes;   // rows encoded together
constexpr std::size_t kTile = kF32Lanes == 8 ? 4 : 8;  // codewords of a tile: 8 or 16 sums stay in registers
constexpr std::size_t kFewRows = 4;                    // rotated one by one

TSL_INLINE std::size_t round_up_64(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

// Panel of rows, one piece: (d/m, kPanel). Rows beyond `count` repeat the first; nobody reads their codes.
TSL_INLINE void pack_piece(const float* rows, std::size_t count, std::size_t d, std::size_t dims, float* piece) {
  const float* row[kPanel];
  for (std::size_t r = 0; r < kPanel; ++r) row[r] = rows + (r < count ? r : 0) * d;
  for (std::size_t j = 0; j < dims; ++j) {
    for (std::size_t r = 0; r < kPanel; ++r) piece[j * kPanel + r] = row[r][j];
  }
}

// Adds <x, c> of kColumns codewords and the panel's rows to `sums`. kDims is d/m, 0 where it is known only now.
template <int kDims, std::size_t kColumns>
TSL_INLINE void product_tile(const float* piece, const float* codewords, std::size_t k, std::size_t dims,
                             F32 (&sums)[kColumns][kVectors]) {
  const std::size_t end = kDims > 0 ? kDims : dims;
#pragma GCC unroll 8
  for (std::size_t j = 0; j < end; ++j) {
    F32 x[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) x[v] = load_f32(piece + j * kPanel + v * kF32Lanes);
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kColumns; ++c) {
      const F32 codeword = set_f32(codewords[j * k + c]);
      for (std::size_t v = 0; v < kVectors; ++v) sums[c][v] = fma(x[v], codeword, sums[c][v]);
    }
  }
}

// The panel's nearest codewords of one piece, a byte a row.
template <int kDims>
TSL_INLINE void nearest(const float* piece, const float* codebook, const float* biases, std::size_t k, std::size_t dims,
                        std::uint8_t* numbers) {
  F32 best[kVectors], number[kVectors], at = zero_f32();
  for (std::size_t v = 0; v < kVectors; ++v) {
    best[v] = set_f32(-__builtin_inff());
    number[v] = zero_f32();
  }
  for (std::size_t first = 0; first < k; first += kTile) {
    F32 sums[kTile][kVectors];
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kTile; ++c) {
      for (std::size_t v = 0; v < kVectors; ++v) sums[c][v] = set_f32(biases[first + c]);
    }
    product_tile<kDims, kTile>(piece, codebook + first, k, dims, sums);
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kTile; ++c) {
      for (std::size_t v = 0; v < kVectors; ++v) {
        number[v] = where_greater(sums[c][v], best[v], at, number[v]);
        best[v] = max_f32(sums[c][v], best[v]);
      }
      at = add(at, set_f32(1.0f));
    }
  }
  for (std::size_t v = 0; v < kVectors; ++v) store_round_u8(numbers + v * kF32Lanes, number[v]);
}

// What the anisotropic loss needs to know of a panel while its pieces change one by one.
struct Alignment {
  alignas(64) float inverse_norms[kPanel];
  alignas(64) float along[kPanel];  // <r, x> / |x| of the row as decoded so far
  float* shares;                    // (m, kPanel) what each piece adds to it
};

// The codewords of one piece that lose least, given the others. With e = <r, x> / |x|, the loss falls with
// <x, c> - |c|^2 / 2 - weight / 2 e^2.
template <int kDims>
TSL_INLINE void best_aligned(const float* piece, const float* codebook, const float* biases, std::size_t k,
                             std::size_t dims, float weight, float* shares, Alignment& alignment,
                             std::uint8_t* numbers) {
  F32 best[kVectors], number[kVectors], along[kVectors], others[kVectors], rest[kVectors], inverse[kVectors];
  const F32 half = set_f32(-0.5f * weight);
  F32 at = zero_f32();
  for (std::size_t v = 0; v < kVectors; ++v) {
    const std::size_t lane = v * kF32Lanes;
    F32 square = zero_f32();
    for (std::size_t j = 0; j < dims; ++j) {
      const F32 x = load_f32(piece + j * kPanel + lane);
      square = fma(x, x, square);
    }
    inverse[v] = load_f32(alignment.inverse_norms + lane);
    others[v] = sub(load_f32(alignment.along + lane), load_f32(shares + lane));
    rest[v] = fma(square, inverse[v], others[v]);
    inverse[v] = sub(zero_f32(), inverse[v]);
    best[v] = set_f32(-__builtin_inff());
    number[v] = zero_f32();
    along[v] = rest[v];
  }
  for (std::size_t first = 0; first < k; first += kTile) {
    F32 sums[kTile][kVectors];
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kTile; ++c) {
      for (std::size_t v = 0; v < kVectors; ++v) sums[c][v] = zero_f32();
    }
    product_tile<kDims, kTile>(piece, codebook + first, k, dims, sums);
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kTile; ++c) {
      const F32 bias = set_f32(biases[first + c]);
      for (std::size_t v = 0; v < kVectors; ++v) {
        const F32 e = fma(sums[c][v], inverse[v], rest[v]);
        const F32 score = fma(mul(e, half), e, add(sums[c][v], bias));
        number[v] = where_greater(score, best[v], at, number[v]);
        along[v] = where_greater(score, best[v], e, along[v]);
        best[v] = max_f32(score, best[v]);
      }
      at = add(at, set_f32(1.0f));
    }
  }
  for (std::size_t v = 0; v < kVectors; ++v) {
    const std::size_t lane = v * kF32Lanes;
    store_round_u8(numbers + lane, number[v]);
    store_f32(shares + lane, sub(along[v], others[v]));
    store_f32(alignment.along + lane, along[v]);
  }
}

// (m, kPanel) numbers -> `count` codes.
TSL_INLINE void write_codes(const std::uint8_t* numbers, std::size_t count, std::size_t m, int bits,
                            std::uint8_t* codes) {
  const std::size_t bytes = pq_code_bytes(m, bits);
  for (std::size_t r = 0; r < count; ++r, codes += bytes) {
    if (bits == 8) {
      for (std::size_t s = 0; s < m; ++s) codes[s] = numbers[s * kPanel + r];
      continue;
    }
    for (std::size_t s = 0; s + 2 <= m; s += 2) {
      codes[s / 2] = static_cast<std::uint8_t>(numbers[s * kPanel + r] | numbers[(s + 1) * kPanel + r] << 4);
    }
    if (m % 2 != 0) codes[m / 2] = numbers[(m - 1) * kPanel + r];
  }
}

template <int kDims>
void encode_panel(const PqEncode& job, std::size_t first, std::size_t count) {
  const std::size_t d = job.d, m = job.m, dims = d / m, k = std::size_t{1} << job.bits;
  const float* rows = job.rows + first * d;
  float* pieces = static_cast<float*>(job.scratch);
  float* shares = pieces + d * kPanel;
  auto* numbers = reinterpret_cast<std::uint8_t*>(shares + m * kPanel);
  if (job.inverse_norms == nullptr) {
    for (std::size_t s = 0; s < m; ++s) {
      pack_piece(rows + s * dims, count, d, dims, pieces);
      nearest<kDims>(pieces, job.codebooks + s * dims * k, job.biases + s * k, k, dims, numbers + s * kPanel);
    }
  } else {
    Alignment alignment;
    for (std::size_t r = 0; r < kPanel; ++r) {
      alignment.inverse_norms[r] = r < count ? job.inverse_norms[first + r] : 0.0f;
      alignment.along[r] = 0.0f;
    }
    for (std::size_t i = 0; i < m * kPanel; ++i) shares[i] = 0.0f;
    for (std::size_t s = 0; s < m; ++s) pack_piece(rows + s * dims, count, d, dims, pieces + s * dims * kPanel);
    for (int sweep = 0; sweep <= job.sweeps; ++sweep) {  // the first, without weight, finds the nearest
      const float weight = sweep == 0 ? 0.0f : job.weight;
      for (std::size_t s = 0; s < m; ++s) {
        best_aligned<kDims>(pieces + s * dims * kPanel, job.codebooks + s * dims * k, job.biases + s * k, k, dims,
                            weight, shares + s * kPanel, alignment, numbers + s * kPanel);
      }
    }
  }
  write_codes(numbers, count, m, job.bits, job.codes + first * pq_code_bytes(m, job.bits));
}

template <int kDims>
void encode(const PqEncode& job) {
  for (std::size_t first = 0; first < job.n; first += kPanel) {
    encode_panel<kDims>(job, first, job.n - first < kPanel ? job.n - first : kPanel);
  }
}

// kColumns columns of a panel's rows times a matrix -> out, (count, d).
template <std::size_t kColumns>
TSL_INLINE void rotate_columns(const float* panel, const float* matrix, std::size_t d, std::size_t count, float* out) {
  F32 sums[kColumns][kVectors];
#pragma GCC unroll 8
  for (std::size_t c = 0; c < kColumns; ++c) {
    for (std::size_t v = 0; v < kVectors; ++v) sums[c][v] = zero_f32();
  }
  product_tile<0, kColumns>(panel, matrix, d, d, sums);
  alignas(64) float tile[kColumns][kPanel];
#pragma GCC unroll 8
  for (std::size_t c = 0; c < kColumns; ++c) {
    for (std::size_t v = 0; v < kVectors; ++v) store_f32(tile[c] + v * kF32Lanes, sums[c][v]);
  }
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t c = 0; c < kColumns; ++c) out[r * d + c] = tile[c][r];
  }
}

// Rows times a matrix without a panel, for a few rows: columns lie in the lanes, so that the matrix is read as it lies.
// The same sums, dimension after dimension.
void rotate_row(const float* row, const float* matrix, std::size_t d, float* out) {
  constexpr std::size_t kSums = 8;
  std::size_t at = 0;
  for (; at + kSums * kF32Lanes <= d; at += kSums * kF32Lanes) {
    F32 sums[kSums];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kSums; ++v) sums[v] = zero_f32();
    for (std::size_t i = 0; i < d; ++i) {
      const F32 x = set_f32(row[i]);
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kSums; ++v) sums[v] = fma(x, load_f32(matrix + i * d + at + v * kF32Lanes), sums[v]);
    }
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kSums; ++v) store_f32(out + at + v * kF32Lanes, sums[v]);
  }
  for (; at + kF32Lanes <= d; at += kF32Lanes) {
    F32 sum = zero_f32();
    for (std::size_t i = 0; i < d; ++i) sum = fma(set_f32(row[i]), load_f32(matrix + i * d + at), sum);
    store_f32(out + at, sum);
  }
  for (; at < d; ++at) {
    float sum = 0.0f;
    for (std::size_t i = 0; i < d; ++i) sum = __builtin_fmaf(row[i], matrix[i * d + at], sum);
    out[at] = sum;
  }
}

}  // namespace

std::size_t pq_encode_scratch(std::size_t d, std::size_t m) {
  return (d + m) * kPanel * sizeof(float) + round_up_64(m * kPanel);
}

void pq_encode(const PqEncode& job) {
  switch (job.d / job.m) {  // the short pieces of practice are unrolled
    case 1: return encode<1>(job);
    case 2: return encode<2>(job);
    case 3: return encode<3>(job);
    case 4: return encode<4>(job);
    case 6: return encode<6>(job);
    case 8: return encode<8>(job);
    default: return encode<0>(job);
  }
}

void pq_rotate(const PqRotate& job) {
  const std::size_t d = job.d;
  float* panel = static_cast<float*>(job.scratch);
  for (std::size_t first = 0; first < job.n; first += kPanel) {
    const std::size_t count = job.n - first < kPanel ? job.n - first : kPanel;
    float* out = job.out + first * d;
    if (count <= kFewRows) {
      for (std::size_t r = 0; r < count; ++r) rotate_row(job.rows + (first + r) * d, job.rotation, d, out + r * d);
      continue;
    }
    pack_piece(job.rows + first * d, count, d, d, panel);
    std::size_t at = 0;
    for (; at + kTile <= d; at += kTile) rotate_columns<kTile>(panel, job.rotation + at, d, count, out + at);
    for (; at < d; ++at) rotate_columns<1>(panel, job.rotation + at, d, count, out + at);
  }
}

void pq_update(const PqUpdate& job) {
  const std::size_t dims = job.d / job.m, k = std::size_t{1} << job.bits, bytes = pq_code_bytes(job.m, job.bits);
  for (std::size_t i = 0; i < job.n; ++i) {
    const float* row = job.rows + i * job.d;
    const std::uint8_t* code = job.codes + i * bytes;
    for (std::size_t s = job.first; s < job.last; ++s) {
      const std::size_t number = job.bits == 8 ? code[s] : (code[s / 2] >> (s % 2 * 4)) & 15u;
      double* sums = job.sums + (s * k + number) * dims;
      for (std::size_t j = 0; j < dims; ++j) sums[j] += row[s * dims + j];
      ++job.counts[s * k + number];
    }
  }
}

}  // namespace tessella::TSL_LEVEL
