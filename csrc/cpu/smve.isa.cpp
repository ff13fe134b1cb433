// Sparse anchors. A token is rotated into scratch that stays in the first-level cache; the largest coordinates of as
// many groups as are needed give a product that at least `kept` of them reach, and the few that reach it are ranked.
//
// Numerics: products are rotated coordinates, sums f32 in token order; scores are whole numbers. All levels agree.
#include "tessella/smve.h"

#include "cpu/kernels.isa.h"
#include "cpu/scratch.isa.h"
#include "simd/vec.h"
#include "tessella/rotate.h"

namespace tessella::TSL_LEVEL {

namespace {

constexpr std::size_t kGroupsForEach = 2;  // groups for each anchor that is kept: more are a sharper limit, and slower

struct Work {
  const SmveEncode& job;
  std::size_t products;    // of a token: rotations * D
  float* rotated;          // (products)
  float* largest;          // (groups) magnitudes
  std::size_t groups;      // a multiple of kF32Lanes, or 0: every product is ranked
  std::uint64_t* ranking;  // (products) magnitude above, complement of the place below
  float* sums;             // (2 * products) by anchor
  std::uint32_t* tokens;   // (2 * products) how many stayed there
};

Work lay_out(const SmveEncode& job, char* memory, char** end) {
  const std::size_t products = job.rotations * padded_dim(job.d);
  const std::size_t wanted = (kGroupsForEach * job.kept + kF32Lanes - 1) / kF32Lanes * kF32Lanes;
  Scratch scratch{memory};
  Work w{job, products, nullptr, nullptr, wanted * 2 <= products ? wanted : 0, nullptr, nullptr, nullptr};
  w.rotated = scratch.take<float>(products);
  w.largest = scratch.take<float>(w.groups);
  w.ranking = scratch.take<std::uint64_t>(products);
  w.sums = scratch.take<float>(2 * products);
  w.tokens = scratch.take<std::uint32_t>(2 * products);
  *end = scratch.next;
  return w;
}

TSL_INLINE F32 magnitude(F32 x) { return max_f32(x, sub(zero_f32(), x)); }

// Magnitudes are not negative, so that their bits are ordered as they are. Of equal ones the first place is ahead.
TSL_INLINE std::uint64_t rank_of(float size, std::size_t place) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &size, sizeof(bits));
  return std::uint64_t{bits} << 32 | static_cast<std::uint32_t>(~place);
}

// Brings the k largest of `count` distinct numbers to the front, the smallest of them last (Hoare's selection).
void front(std::uint64_t* x, std::size_t count, std::size_t k) {
  if (k == 0 || k >= count) return;
  const auto target = static_cast<std::ptrdiff_t>(k) - 1;
  std::ptrdiff_t first = 0, last = static_cast<std::ptrdiff_t>(count) - 1;
  while (first < last) {
    const std::uint64_t pivot = x[target];
    std::ptrdiff_t i = first, j = last;
    while (i <= j) {
      while (x[i] > pivot) ++i;
      while (x[j] < pivot) --j;
      if (i > j) break;
      const std::uint64_t other = x[i];
      x[i++] = x[j];
      x[j--] = other;
    }
    if (j < target) first = i;
    if (target < i) last = j;
  }
}

// What at least `kept` magnitudes reach: the largest ones of that many groups do.
float limit_of(const Work& w) {
  if (w.groups == 0) return 0.0f;
  for (std::size_t g = 0; g < w.groups; g += kF32Lanes) store_f32(w.largest + g, zero_f32());
  for (std::size_t j = 0; j + w.groups <= w.products; j += w.groups) {
    for (std::size_t g = 0; g < w.groups; g += kF32Lanes) {
      store_f32(w.largest + g, max_f32(load_f32(w.largest + g), magnitude(load_f32(w.rotated + j + g))));
    }
  }
  for (std::size_t g = 0; g < w.groups; ++g) w.ranking[g] = rank_of(w.largest[g], g);
  front(w.ranking, w.groups, w.job.kept);
  const auto bits = static_cast<std::uint32_t>(w.ranking[w.job.kept - 1] >> 32);
  float limit;
  __builtin_memcpy(&limit, &bits, sizeof(limit));
  return limit;
}

// The products that reach the limit, ranked by `front`; how many are kept.
std::size_t keep_best(const Work& w) {
  const F32 limit = set_f32(limit_of(w));
  std::size_t count = 0;
  for (std::size_t j = 0; j < w.products; j += kF32Lanes) {
    const F32 sizes = magnitude(load_f32(w.rotated + j));
    for (std::uint32_t mask = ge_mask(sizes, limit); mask != 0; mask &= mask - 1) {
      const std::size_t place = j + static_cast<std::size_t>(__builtin_ctz(mask));
      w.ranking[count++] = rank_of(__builtin_fabsf(w.rotated[place]), place);
    }
  }
  const std::size_t kept = count < w.job.kept ? count : w.job.kept;
  front(w.ranking, count, kept);
  return kept;
}

void take_token(const Work& w, const float* token) {
  const SmveEncode& job = w.job;
  const std::size_t padded = padded_dim(job.d);
  for (std::size_t r = 0; r < job.rotations; ++r) {
    rotate_forward(
        {job.signs + r * rotate_sign_words(padded), token, 1, job.d, nullptr, w.rotated + r * padded, nullptr});
  }
  const std::size_t kept = keep_best(w);
  for (std::size_t i = 0; i < kept; ++i) {
    const std::size_t place = static_cast<std::uint32_t>(~w.ranking[i]);
    const float product = w.rotated[place];
    if (product == 0.0f) continue;
    const std::size_t anchor = 2 * place + (product < 0.0f ? 1 : 0);
    w.sums[anchor] += __builtin_fabsf(product);
    ++w.tokens[anchor];
  }
}

// The anchors that tokens stayed at, and their sums forgotten.
std::size_t write_out(const Work& w, std::uint32_t* anchors, float* weights) {
  std::size_t count = 0;
  for (std::size_t anchor = 0; anchor < 2 * w.products; ++anchor) {
    if (w.tokens[anchor] == 0) continue;
    const float sum = w.sums[anchor];
    anchors[count] = static_cast<std::uint32_t>(anchor);
    weights[count++] = w.job.queries ? sum : sum / static_cast<float>(w.tokens[anchor]);
    w.sums[anchor] = 0.0f;
    w.tokens[anchor] = 0;
  }
  return count;
}

}  // namespace

std::size_t smve_encode_scratch(const SmveEncode& job) {
  alignas(64) char nothing[64];
  char* end = nullptr;
  lay_out(job, nothing, &end);
  return static_cast<std::size_t>(end - nothing);
}

void smve_encode(const SmveEncode& job) {
  char* end = nullptr;
  const Work w = lay_out(job, static_cast<char*>(job.scratch), &end);
  __builtin_memset(w.sums, 0, 2 * w.products * sizeof(float));
  __builtin_memset(w.tokens, 0, 2 * w.products * sizeof(std::uint32_t));
  std::size_t written = 0;
  const float* token = job.tokens;
  for (std::size_t i = 0; i < job.n; ++i) {
    for (std::int64_t t = job.offsets[i]; t < job.offsets[i + 1]; ++t, token += job.d) take_token(w, token);
    const std::size_t count = write_out(w, job.anchors + written, job.weights + written);
    job.counts[i] = static_cast<std::int64_t>(count);
    written += count;
  }
}

void smve_score(const SmveScore& job) {
  const std::uint16_t* rows = job.rows;
  const std::uint8_t* weights = job.weights;
  std::uint32_t* scores = job.scores;
  __builtin_memset(scores, 0, job.n * sizeof(std::uint32_t));
  for (std::size_t i = 0; i < job.count; ++i) {
    const std::uint32_t weight = job.query_weights[i];
    const std::int64_t end = job.starts[job.query_anchors[i] + 1];
#pragma GCC unroll 8
    for (std::int64_t p = job.starts[job.query_anchors[i]]; p < end; ++p) scores[rows[p]] += weight * weights[p];
  }
}

}  // namespace tessella::TSL_LEVEL
