// Fixed-dimensional encodings, kPanel tokens at a time whatever documents they belong to: the tokens are turned into
// columns, a register-tiled product with the hyperplanes gives their patterns, a sketch adds columns, and the projected
// tokens are turned back into rows, which are added to the cells of their document.
//
// Nearest by Hamming distance and then by first token is a minimum over the hypercube, and separable: k_sim passes,
// each along one bit, over keys of distance and rank give every empty cell its token. Ranks count a document's cells in
// the order of their first tokens.
//
// Numerics: one f32 sum by FMA for a product, one f32 sum in token order for a cell; every level writes the same bits.
#include "cpu/kernels.isa.h"
#include "cpu/product.isa.h"
#include "simd/vec.h"

namespace tessella::TSL_LEVEL {

namespace {

constexpr std::uint32_t kBitAway = 1u << kFdeMostBits;   // a key: distance above, rank below
constexpr std::uint32_t kNobody = kBitAway * (1u << 8);  // farther than any cell, however many bits are added
static_assert(kFdeMostBits < 1u << 7);

TSL_INLINE std::size_t whole_vectors(std::size_t count) { return (count + kF32Lanes - 1) / kF32Lanes * kF32Lanes; }
TSL_INLINE std::size_t packed_floats(std::size_t rows, std::size_t d) { return query_panels(rows) * kTileQueries * d; }

// p with p ^ (p >> 1) = pattern.
TSL_INLINE std::uint32_t cell_of(std::uint32_t pattern) {
#pragma GCC unroll 8
  for (std::uint32_t shift = 1; shift < kFdeMostBits; shift *= 2) pattern ^= pattern >> shift;
  return pattern;
}

// Eight floats at once on every level, since cells of 8 and of 16 numbers are what practice has.
using F32x8 = float __attribute__((vector_size(32)));
TSL_INLINE void add_row(const float* from, std::size_t count, float* to) {
  std::size_t j = 0;
#pragma GCC unroll 4
  for (; j + 8 <= count; j += 8) {
    F32x8 row, sum;
    __builtin_memcpy(&row, from + j, sizeof(row));
    __builtin_memcpy(&sum, to + j, sizeof(sum));
    sum += row;
    __builtin_memcpy(to + j, &sum, sizeof(sum));
  }
  for (; j < count; ++j) to[j] += from[j];
}

// A sketch sorted by output: entries [starts[o], starts[o + 1]) are the coordinates of output o in ascending order.
struct Sorted {
  std::uint32_t* starts = nullptr;       // (repetitions, p + 1)
  std::uint32_t* coordinates = nullptr;  // (repetitions, d)
  float* signs = nullptr;                // (repetitions, d)
};

struct Work {
  const FdeEncode& job;
  std::size_t cells = 0;      // of a repetition
  std::size_t p = 0;          // of a cell
  std::size_t projected = 0;  // floats of a token that differ between repetitions, or d
  std::size_t stride = 0;     // of `rows`
  std::size_t step = 0;       // from one repetition's projection of a token to the next; 0: they share it

  float* columns = nullptr;           // (d, kPanel)
  float* planes = nullptr;            // hyperplanes, packed
  float* numbers = nullptr;           // (repetitions, kPanel) patterns as floats
  std::uint32_t* patterns = nullptr;  // (repetitions, kPanel)
  std::uint32_t* places = nullptr;    // (repetitions, kPanel) cells of the patterns
  float* dense = nullptr;             // projection, packed
  Sorted sketch{};
  float* psi = nullptr;   // (projected, kPanel)
  float* rows = nullptr;  // (kPanel, stride)

  std::uint32_t* counts = nullptr;  // (repetitions, cells) tokens
  std::uint32_t* keys = nullptr;    // (repetitions, cells) ranks, kNobody where there are no tokens
  std::uint32_t* ranks = nullptr;   // (repetitions) filled cells so far
  float* firsts = nullptr;          // (repetitions, cells, p) the first tokens' projections, by rank
  float* whole = nullptr;           // (repetitions, cells, p) where `out` does not take them
  float* final = nullptr;           // (final.dim) where `out` is f16
  float* sums = nullptr;            // where the document's cells are: `out` or `whole`
};

bool fills(const FdeEncode& job) { return !job.queries && job.fill != FdeFill::kNone; }

// Lays the pieces out from `memory` on; what they take is also the answer to fde_encode_scratch.
Work lay_out(const FdeEncode& job, char* memory, char** end) {
  const std::size_t d = job.d, r = job.repetitions, p = job.projection.p, cells = std::size_t{1} << job.k_sim;
  const bool is_dense = job.projection.matrix != nullptr, is_sketch = job.projection.index != nullptr;
  Scratch scratch{memory};
  Work w{job};
  w.cells = cells;
  w.p = p;
  w.projected = is_dense || is_sketch ? r * p : d;
  w.stride = whole_vectors(w.projected);
  w.step = is_dense || is_sketch ? p : 0;
  w.columns = scratch.take<float>(whole_vectors(d) * kPanel);
  w.planes = scratch.take<float>(packed_floats(r * job.k_sim, d));
  w.numbers = scratch.take<float>(r * kPanel);
  w.patterns = scratch.take<std::uint32_t>(r * kPanel);
  w.places = scratch.take<std::uint32_t>(r * kPanel);
  w.dense = scratch.take<float>(is_dense ? packed_floats(r * p, d) : 0);
  w.sketch.starts = scratch.take<std::uint32_t>(is_sketch ? r * (p + 1) : 0);
  w.sketch.coordinates = scratch.take<std::uint32_t>(is_sketch ? r * d : 0);
  w.sketch.signs = scratch.take<float>(is_sketch ? r * d : 0);
  w.psi = is_dense || is_sketch ? scratch.take<float>(w.stride * kPanel) : w.columns;
  w.rows = scratch.take<float>(kPanel * w.stride);
  w.counts = scratch.take<std::uint32_t>(r * cells);
  w.keys = scratch.take<std::uint32_t>(r * cells);
  w.ranks = scratch.take<std::uint32_t>(r);
  w.firsts = scratch.take<float>(fills(job) ? r * cells * p : 0);
  const bool direct = job.out_type == ScalarType::kF32 && job.final.dim == 0;
  w.whole = scratch.take<float>(direct ? 0 : r * cells * p);
  w.final = scratch.take<float>(job.out_type == ScalarType::kF32 ? 0 : job.final.dim);
  *end = scratch.next;
  return w;
}

// ---- matrices

void sort_sketch(const FdeProjection& projection, std::size_t r, std::size_t d, const Sorted& to) {
  const std::size_t p = projection.p;
  for (std::size_t i = 0; i < r; ++i) {
    const std::uint32_t* index = projection.index + i * d;
    std::uint32_t* starts = to.starts + i * (p + 1);
    __builtin_memset(starts, 0, (p + 1) * sizeof(std::uint32_t));
    for (std::size_t j = 0; j < d; ++j) ++starts[index[j]];
    for (std::size_t o = 0, sum = 0; o <= p; ++o) {  // where the entries of output o end
      sum += starts[o];
      starts[o] = static_cast<std::uint32_t>(sum);
    }
    for (std::size_t j = d; j-- > 0;) {  // downwards: ends become starts
      const std::size_t at = i * d + --starts[index[j]];
      to.coordinates[at] = static_cast<std::uint32_t>(j);
      to.signs[at] = projection.signs[i * d + j];
    }
  }
}

void pack_matrices(const Work& w) {
  const FdeEncode& job = w.job;
  pack_queries(job.hyperplanes, job.repetitions * job.k_sim, job.d, w.planes);
  if (job.projection.matrix != nullptr) pack_queries(job.projection.matrix, w.projected, job.d, w.dense);
  if (job.projection.index != nullptr) sort_sketch(job.projection, job.repetitions, job.d, w.sketch);
}

// ---- a panel of tokens

template <ScalarType kType>
TSL_INLINE F32 load_as(const void* row, std::size_t j) {
  if constexpr (kType == ScalarType::kF16) return load_f16(static_cast<const std::uint16_t*>(row) + j);
  if constexpr (kType == ScalarType::kBF16) return load_bf16(static_cast<const std::uint16_t*>(row) + j);
  return load_f32(static_cast<const float*>(row) + j);
}

// Tokens [first, first + count) as columns; those beyond are zeros, computed and never looked at.
template <ScalarType kType>
void load_columns(const FdeEncode& job, std::size_t first, std::size_t count, float* columns) {
  const std::size_t d = job.d, row_bytes = d * scalar_bytes(kType);
  const char* tokens = static_cast<const char*>(job.tokens) + first * row_bytes;
  for (std::size_t t = 0; t < kPanel; t += kF32Lanes) {
    std::size_t j = 0;
    for (; j + kF32Lanes <= d; j += kF32Lanes) {
      F32 square[kF32Lanes];
#pragma GCC unroll 16
      for (std::size_t i = 0; i < kF32Lanes; ++i) {
        square[i] = t + i < count ? load_as<kType>(tokens + (t + i) * row_bytes, j) : zero_f32();
      }
      transpose(square);
#pragma GCC unroll 16
      for (std::size_t i = 0; i < kF32Lanes; ++i) store_f32(columns + (j + i) * kPanel + t, square[i]);
    }
    for (; j < d; ++j) {
      for (std::size_t i = 0; i < kF32Lanes; ++i) {
        columns[j * kPanel + t + i] = t + i < count ? element<kType>(tokens + (t + i) * row_bytes, j) : 0.0f;
      }
    }
  }
}

void load_panel(const Work& w, std::size_t first, std::size_t count) {
  switch (w.job.type) {
    case ScalarType::kF16: return load_columns<ScalarType::kF16>(w.job, first, count, w.columns);
    case ScalarType::kBF16: return load_columns<ScalarType::kBF16>(w.job, first, count, w.columns);
    default: return load_columns<ScalarType::kF32>(w.job, first, count, w.columns);
  }
}

// Calls take(row, sums) for each of `count` packed rows: its products with the panel's tokens.
template <typename Take>
TSL_INLINE void multiply_panel(const float* packed, std::size_t count, const Work& w, const Take& take) {
  for (std::size_t first = 0; first < count; first += kTileQueries) {
    F32 sums[kTileQueries][kTileVectors];
    product_tile(packed + first * w.job.d, w.columns, w.job.d, sums);
#pragma GCC unroll 16
    for (std::size_t i = 0; i < kTileQueries; ++i) {
      if (first + i < count) take(first + i, sums[i]);
    }
  }
}

void find_patterns(const Work& w) {
  const std::size_t k_sim = w.job.k_sim, count = w.job.repetitions * kPanel;
  __builtin_memset(w.numbers, 0, count * sizeof(float));
  const F32 zero = zero_f32();
  multiply_panel(w.planes, w.job.repetitions * k_sim, w, [&](std::size_t row, const F32* sums) {
    float* to = w.numbers + row / k_sim * kPanel;
    const F32 bit = set_f32(static_cast<float>(1u << (k_sim - 1 - row % k_sim)));
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      float* at = to + v * kF32Lanes;
      store_f32(at, add(load_f32(at), where_greater(sums[v], zero, bit, zero)));
    }
  });
  for (std::size_t i = 0; i < count; ++i) {
    w.patterns[i] = static_cast<std::uint32_t>(static_cast<std::int32_t>(w.numbers[i]));
    w.places[i] = cell_of(w.patterns[i]);
  }
}

void sketch_panel(const Work& w) {
  const std::size_t d = w.job.d;
  for (std::size_t i = 0; i < w.job.repetitions; ++i) {
    const std::uint32_t* starts = w.sketch.starts + i * (w.p + 1);
    for (std::size_t o = 0; o < w.p; ++o) {
      F32 sums[kTileVectors];
#pragma GCC unroll 4
      for (F32& sum : sums) sum = zero_f32();
      for (std::size_t at = i * d + starts[o]; at < i * d + starts[o + 1]; ++at) {
        const F32 sign = set_f32(w.sketch.signs[at]);
        const float* column = w.columns + w.sketch.coordinates[at] * kPanel;
#pragma GCC unroll 4
        for (int v = 0; v < kTileVectors; ++v) sums[v] = fma(sign, load_f32(column + v * kF32Lanes), sums[v]);
      }
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) store_f32(w.psi + (i * w.p + o) * kPanel + v * kF32Lanes, sums[v]);
    }
  }
}

void project_panel(const Work& w) {
  if (w.job.projection.index != nullptr) sketch_panel(w);
  if (w.job.projection.matrix != nullptr) {
    multiply_panel(w.dense, w.projected, w, [&](std::size_t row, const F32* sums) {
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) store_f32(w.psi + row * kPanel + v * kF32Lanes, sums[v]);
    });
  }
  for (std::size_t c = 0; c < w.projected; c += kF32Lanes) {
    for (std::size_t t = 0; t < kPanel; t += kF32Lanes) {
      F32 square[kF32Lanes];
#pragma GCC unroll 16
      for (std::size_t i = 0; i < kF32Lanes; ++i) square[i] = load_f32(w.psi + (c + i) * kPanel + t);
      transpose(square);
#pragma GCC unroll 16
      for (std::size_t i = 0; i < kF32Lanes; ++i) store_f32(w.rows + (t + i) * w.stride + c, square[i]);
    }
  }
}

// ---- a document

void begin_document(const Work& w) {
  const std::size_t count = w.job.repetitions * w.cells;
  __builtin_memset(w.sums, 0, count * w.p * sizeof(float));
  if (w.job.queries) return;
  __builtin_memset(w.counts, 0, count * sizeof(std::uint32_t));
  __builtin_memset(w.ranks, 0, w.job.repetitions * sizeof(std::uint32_t));
  for (std::size_t i = 0; i < count; ++i) w.keys[i] = kNobody;
}

// kWidth is p where that is known to the compiler, else 0.
template <std::size_t kWidth, bool kQueries, bool kFill>
void add_tokens(const Work& w, std::size_t first, std::size_t last) {
  const std::size_t p = kWidth == 0 ? w.p : kWidth;
  for (std::size_t i = 0; i < w.job.repetitions; ++i) {
    float* sums = w.sums + i * w.cells * p;
    for (std::size_t t = first; t < last; ++t) {
      const float* row = w.rows + t * w.stride + i * w.step;
      add_row(row, p, sums + w.places[i * kPanel + t] * p);
      if constexpr (!kQueries) {
        const std::size_t at = i * w.cells + w.patterns[i * kPanel + t];
        if (w.counts[at]++ == 0 && kFill) {
          w.keys[at] = w.ranks[i]++;
          __builtin_memcpy(w.firsts + (i * w.cells + w.keys[at]) * p, row, p * sizeof(float));
        }
      }
    }
  }
}

template <std::size_t kWidth>
void add_of_width(const Work& w, std::size_t first, std::size_t last) {
  if (w.job.queries) return add_tokens<kWidth, true, false>(w, first, last);
  if (w.job.fill == FdeFill::kNone) return add_tokens<kWidth, false, false>(w, first, last);
  add_tokens<kWidth, false, true>(w, first, last);
}

void add_to_document(const Work& w, std::size_t first, std::size_t last) {
  switch (w.p) {
    case 8: return add_of_width<8>(w, first, last);
    case 16: return add_of_width<16>(w, first, last);
    case 32: return add_of_width<32>(w, first, last);
    default: return add_of_width<0>(w, first, last);
  }
}

// Every cell's nearest key: a pass for each bit, between cells that differ in it.
void spread_keys(std::uint32_t* keys, std::size_t cells) {
  for (std::size_t bit = 1; bit < cells; bit *= 2) {
    for (std::size_t block = 0; block < cells; block += 2 * bit) {
      for (std::size_t c = block; c < block + bit; ++c) {
        const std::uint32_t a = keys[c], b = keys[c + bit];
        keys[c] = a < b + kBitAway ? a : b + kBitAway;
        keys[c + bit] = b < a + kBitAway ? b : a + kBitAway;
      }
    }
  }
}

void fill_cells(const Work& w, std::size_t repetition) {
  const std::size_t begin = repetition * w.cells, p = w.p;
  spread_keys(w.keys + begin, w.cells);
  for (std::uint32_t pattern = 0; pattern < w.cells; ++pattern) {
    if (w.counts[begin + pattern] != 0) continue;
    const std::uint32_t key = w.keys[begin + pattern], rank = key % kBitAway, distance = key / kBitAway;
    const float scale = w.job.fill == FdeFill::kDecay ? 1.0f / static_cast<float>(1u << distance) : 1.0f;
    const float* __restrict from = w.firsts + (begin + rank) * p;
    float* __restrict to = w.sums + (begin + cell_of(pattern)) * p;
    for (std::size_t j = 0; j < p; ++j) to[j] = from[j] * scale;
  }
}

void finish_cells(const Work& w) {
  for (std::size_t i = 0; i < w.job.repetitions; ++i) {
    for (std::uint32_t pattern = 0; pattern < w.cells; ++pattern) {
      const std::uint32_t count = w.counts[i * w.cells + pattern];
      if (count < 2) continue;
      const float tokens = static_cast<float>(count);
      float* row = w.sums + (i * w.cells + cell_of(pattern)) * w.p;
      for (std::size_t j = 0; j < w.p; ++j) row[j] /= tokens;
    }
    if (fills(w.job)) fill_cells(w, i);
  }
}

void store_halves(const float* from, std::size_t count, std::uint16_t* to) {
  std::size_t i = 0;
  for (; i + kF32Lanes <= count; i += kF32Lanes) store_f16(to + i, load_f32(from + i));
  if (i == count) return;
  float last[kF32Lanes] = {};
  std::uint16_t halves[kF32Lanes];
  __builtin_memcpy(last, from + i, (count - i) * sizeof(float));
  store_f16(halves, load_f32(last));
  __builtin_memcpy(to + i, halves, (count - i) * sizeof(std::uint16_t));
}

void sketch_whole(const FdeFinal& sketch, const float* from, std::size_t count, float* to) {
  __builtin_memset(to, 0, sketch.dim * sizeof(float));
  for (std::size_t i = 0; i < count; ++i) to[sketch.index[i]] += sketch.signs[i] * from[i];
}

// Where document i's results go, as floats.
float* floats_of(const Work& w, std::size_t i) {
  const std::size_t dim = fde_dim(w.job.repetitions, w.job.k_sim, w.p, w.job.final.dim);
  return static_cast<float*>(w.job.out) + i * dim;
}

void finish_document(const Work& w, std::size_t i) {
  const FdeEncode& job = w.job;
  if (!job.queries && job.offsets[i + 1] > job.offsets[i]) finish_cells(w);
  const std::size_t count = job.repetitions * w.cells * w.p;
  const bool halves = job.out_type == ScalarType::kF16;
  const float* result = w.sums;
  std::size_t dim = count;
  if (job.final.dim != 0) {
    float* to = halves ? w.final : floats_of(w, i);
    sketch_whole(job.final, w.sums, count, to);
    result = to;
    dim = job.final.dim;
  }
  if (halves) store_halves(result, dim, static_cast<std::uint16_t*>(job.out) + i * dim);
}

}  // namespace

std::size_t fde_encode_scratch(const FdeEncode& job) {
  alignas(64) char nothing[64];
  char* end = nullptr;
  lay_out(job, nothing, &end);
  return static_cast<std::size_t>(end - nothing);
}

void fde_encode(const FdeEncode& job) {
  char* end = nullptr;
  Work w = lay_out(job, static_cast<char*>(job.scratch), &end);
  pack_matrices(w);
  const bool direct = job.out_type == ScalarType::kF32 && job.final.dim == 0;
  const auto place = [&](std::size_t i) { w.sums = direct ? floats_of(w, i) : w.whole; };
  const auto end_of = [&](std::size_t i) { return static_cast<std::size_t>(job.offsets[i + 1] - job.offsets[0]); };
  std::size_t document = 0;
  const std::size_t total = job.n == 0 ? 0 : end_of(job.n - 1);
  const auto begin = [&] {
    if (document == job.n) return;
    place(document);
    begin_document(w);
  };
  begin();
  for (std::size_t first = 0; first < total; first += kPanel) {
    const std::size_t last = first + kPanel < total ? first + kPanel : total;
    load_panel(w, first, last - first);
    find_patterns(w);
    project_panel(w);
    for (std::size_t t = first; t < last;) {
      const std::size_t until = end_of(document) < last ? end_of(document) : last;
      add_to_document(w, t - first, until - first);
      t = until;
      if (end_of(document) > t) break;  // it goes on in the next panel
      for (; document < job.n && end_of(document) <= t; begin()) finish_document(w, document++);
    }
  }
  for (; document < job.n; begin()) finish_document(w, document++);
}

}  // namespace tessella::TSL_LEVEL
