// The nearest centroid of each row: a register-tiled product whose tile is compared with the best so far while it is
// still in registers. Few tiles improve on it, so the comparison costs little.
//
// Numerics: one f32 sum by FMA, dimension after dimension; every level finds the same centroids and similarities.
#include "cpu/kernels.isa.h"
#include "cpu/product.isa.h"

namespace tessella::TSL_LEVEL {

namespace {

struct Best {
  float similarity;
  std::uint32_t centroid;
};

struct Centroids {
  const float* panel;
  const float* offsets;  // of the panel's centroids
  std::uint32_t first;
  std::size_t filled;  // of the panel
};

// Centroids come in ascending order, so a strictly larger similarity alone replaces the best.
TSL_INLINE void keep_nearest(const float* rows, const Centroids& centroids, std::size_t d, Best* best,
                             std::size_t filled) {
  F32 sums[kTileQueries][kTileVectors];
  product_tile(rows, centroids.panel, d, sums);
#pragma GCC unroll 16
  for (int i = 0; i < kTileQueries; ++i) {
    if (static_cast<std::size_t>(i) >= filled) break;
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      const F32 similarity = sub(sums[i][v], load_f32(centroids.offsets + v * kF32Lanes));
      std::uint32_t mask = ge_mask(similarity, set_f32(best[i].similarity));
      if (mask == 0) continue;
      float values[kF32Lanes];
      store_f32(values, similarity);
      for (; mask != 0; mask &= mask - 1) {
        const std::size_t lane = static_cast<std::size_t>(__builtin_ctz(mask)), c = v * kF32Lanes + lane;
        if (c < centroids.filled && values[lane] > best[i].similarity) {
          best[i] = {values[lane], centroids.first + static_cast<std::uint32_t>(c)};
        }
      }
    }
  }
}

}  // namespace

std::size_t kmeans_assign_scratch(std::size_t n, std::size_t, std::size_t d) {
  const std::size_t rows = query_panels(n) * kTileQueries;
  return round_up(rows * d * 4) + round_up(rows * sizeof(Best)) + round_up(panel_rows(d) * d * 4) +
         round_up(panel_rows(d) * 4);
}

void kmeans_assign(const KmeansAssign& job) {
  Scratch scratch{static_cast<char*>(job.scratch)};
  const std::size_t d = job.d, block = panel_rows(d);
  float* rows = scratch.take<float>(query_panels(job.n) * kTileQueries * d);
  Best* best = scratch.take<Best>(query_panels(job.n) * kTileQueries);
  float* centroids = scratch.take<float>(block * d);
  float* offsets = scratch.take<float>(block);
  pack_queries(job.rows, job.n, d, rows);
  for (std::size_t i = 0; i < job.n; ++i) best[i] = {-__builtin_inff(), 0};
  for (std::size_t first = 0; first < job.k; first += block) {
    const std::size_t count = job.k - first < block ? job.k - first : block;
    pack_rows<ScalarType::kF32>(job.centroids + first * d, count, d, centroids, nullptr);
    for (std::size_t c = 0; c < block; ++c) {
      offsets[c] = job.offsets != nullptr && c < count ? job.offsets[first + c] : 0.0f;
    }
    for (std::size_t i = 0; i < job.n; i += kTileQueries) {
      for (std::size_t c = 0; c < count; c += kPanel) {
        const Centroids panel{centroids + c * d, offsets + c, static_cast<std::uint32_t>(first + c),
                              count - c < kPanel ? count - c : kPanel};
        keep_nearest(rows + i * d, panel, d, best + i, job.n - i);
      }
    }
  }
  for (std::size_t i = 0; i < job.n; ++i) {
    job.nearest[i] = best[i].centroid;
    job.similarity[i] = best[i].similarity;
  }
}

}  // namespace tessella::TSL_LEVEL
