// Contrastive losses. Products of a strip of rows with a block of columns land in a small buffer, where a page of plain
// vector code makes logits of them, drops what does not count and sums exponentials; the buffer is then used again.
// The gradient computes the products a second time, turns them into weights, and multiplies the weights with both
// sides.
//
// Prefixes: products are summed piece by piece of the dimensions, and the buffer keeps the sum so far for each prefix.
// Backwards, a piece's gradient takes the weights of all prefixes that it is part of, so these are summed first: either
// way the multiplications are those of one prefix.
//
// Numerics: f32 FMA; a pair's product has the same bits in both directions, so its share of the sum is at most 1.
#include "cpu/kernels.isa.h"
#include "cpu/product.isa.h"
#include "simd/exp.h"

namespace tessella::TSL_LEVEL {

namespace {

constexpr std::size_t kBlock = 128;           // columns at once
constexpr std::size_t kStrip = kTileQueries;  // rows at once
constexpr std::size_t kStrips = 16;           // strips whose weights are gathered before they are multiplied
constexpr std::size_t kGroup = kStrips * kStrip;
constexpr std::size_t kPitch = kBlock + 16;  // of weights: an odd number of cache lines
static_assert(kBlock % kPanel == 0);

constexpr float kInfinity = __builtin_inff();

// Dimensions cut at the prefixes; piece p is of prefix p and all that follow.
struct Pieces {
  std::size_t count;
  std::size_t begin[kMaxPrefixes + 1];
  std::size_t panels[kMaxPrefixes + 1];  // panels of kPanel dimensions before each piece
};

Pieces cut(const Contrast& job) {
  Pieces pieces{};
  pieces.count = job.p;
  for (std::size_t p = 0; p < job.p; ++p) {
    pieces.begin[p + 1] = job.prefixes[p];
    pieces.panels[p + 1] = pieces.panels[p] + (pieces.begin[p + 1] - pieces.begin[p] + kPanel - 1) / kPanel;
  }
  return pieces;
}

// A strip's work: products of each prefix, and for each row what is added to its values: 0, or -inf for pairs that do
// not count.
struct Strip {
  float products[kMaxPrefixes][kStrip][kBlock];
  float guide[kStrip][kBlock];
  float allowed[kBlock];
};

struct Packed {
  const float* rows;     // strips of kStrip rows, dimension-major
  const float* columns;  // panels of kPanel columns, dimension-major
};

// Products of a strip with a block, for one run of dimensions; what `before` has is added, where it is given.
TSL_INLINE void multiply_strip(const Packed& packed, std::size_t d, std::size_t begin, std::size_t end,
                               const float (*before)[kBlock], float (*out)[kBlock]) {
  for (std::size_t first = 0; first < kBlock; first += kPanel) {
    F32 sums[kTileQueries][kTileVectors];
    product_tile(packed.rows + begin * kStrip, packed.columns + first * d + begin * kPanel, end - begin, sums);
#pragma GCC unroll 16
    for (int i = 0; i < kTileQueries; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) {
        const std::size_t at = first + static_cast<std::size_t>(v * kF32Lanes);
        store_f32(out[i] + at, before == nullptr ? sums[i][v] : add(load_f32(before[i] + at), sums[i][v]));
      }
    }
  }
}

void multiply_prefixes(const Pieces& pieces, std::size_t d, const Packed& packed, Strip& strip) {
  for (std::size_t p = 0; p < pieces.count; ++p) {
    multiply_strip(packed, d, pieces.begin[p], pieces.begin[p + 1], p == 0 ? nullptr : strip.products[p - 1],
                   strip.products[p]);
  }
}

// Columns of a block: where they begin and how many there are.
struct Block {
  std::size_t first;
  std::size_t count;
};

bool has_guide(const Contrast& job) { return job.guide_rows != nullptr; }

// Which pairs of a row count, whatever the prefix.
void allow(const Contrast& job, std::size_t row, const Block& block, const float* guide, float* allowed) {
  for (std::size_t j = 0; j < kBlock; ++j) allowed[j] = j < block.count ? 0.0f : -kInfinity;
  for (std::size_t k = 0; k < job.k_ids; ++k) {
    const std::int32_t id = job.row_ids[k * job.row_stride + row];
    if (id < 0) continue;
    const std::int32_t* ids = job.column_ids + k * job.column_stride + block.first;
    for (std::size_t j = 0; j < block.count; ++j) allowed[j] = ids[j] == id ? -kInfinity : allowed[j];
  }
  if (job.row_groups != nullptr) {
    const std::int32_t group = job.row_groups[row];
    const std::int32_t* groups = job.column_groups + block.first;
    for (std::size_t j = 0; j < block.count; ++j) allowed[j] = groups[j] == group ? allowed[j] : -kInfinity;
  }
  if (has_guide(job)) {
    const float bound = job.guide_bound[row];
    for (std::size_t j = 0; j < kBlock; ++j) allowed[j] = guide[j] > bound ? -kInfinity : allowed[j];
  }
}

// What turns products of one row and prefix into values.
struct Law {
  F32 scale;                  // of the row
  F32 gain;                   // 1 + hardness
  F32 bound;                  // logits above it do not count
  const float* column_scale;  // of the block, padded; nullptr: 1
};

Law law_of(const Contrast& job, std::size_t p, std::size_t row, const float* column_scale) {
  const std::size_t at = p * job.row_stride + row;
  return {set_f32(job.row_scale[at]), set_f32(1.0f + (job.hardness == nullptr ? 0.0f : job.hardness[row])),
          set_f32(job.row_bound == nullptr ? kInfinity : job.row_bound[at]), column_scale};
}

// Value of kF32Lanes pairs; -inf where they do not count.
TSL_INLINE F32 value_of(const Law& law, F32 product, std::size_t j, const float* allowed) {
  F32 logit = mul(product, law.scale);
  if (law.column_scale != nullptr) logit = mul(logit, load_f32(law.column_scale + j));
  const F32 value = add(mul(logit, law.gain), load_f32(allowed + j));
  return where_greater(logit, law.bound, set_f32(-kInfinity), value);
}

// ---- forward

struct Running {
  float top;  // the largest value so far; softplus: unused
  float sum;  // of exp(value - top), or of softplus
};

TSL_INLINE float reduce_max(F32 a) {
  float lanes[kF32Lanes], top = -kInfinity;
  store_f32(lanes, a);
  for (int i = 0; i < kF32Lanes; ++i) top = lanes[i] > top ? lanes[i] : top;
  return top;
}

TSL_INLINE float exp_of(float x) {
  float lanes[kF32Lanes];
  store_f32(lanes, exp_f32(set_f32(x)));
  return lanes[0];
}

// Values are written over the products: they are read twice.
void add_exponentials(const Law& law, float* products, const float* allowed, Running& running) {
  F32 most = set_f32(-kInfinity);
  for (std::size_t j = 0; j < kBlock; j += kF32Lanes) {
    const F32 value = value_of(law, load_f32(products + j), j, allowed);
    store_f32(products + j, value);
    most = max_f32(most, value);
  }
  const float block_top = reduce_max(most);
  if (block_top == -kInfinity) return;
  const float top = block_top > running.top ? block_top : running.top;
  F32 even = zero_f32(), odd = zero_f32();
  for (std::size_t j = 0; j < kBlock; j += 2 * kF32Lanes) {
    even = add(even, exp_f32(sub(load_f32(products + j), set_f32(top))));
    odd = add(odd, exp_f32(sub(load_f32(products + j + kF32Lanes), set_f32(top))));
  }
  const float before = running.sum == 0.0f ? 0.0f : running.sum * exp_of(running.top - top);
  running = {top, before + reduce_add(add(even, odd))};
}

void add_softplus(const Law& law, const float* products, const float* allowed, Running& running) {
  F32 sum = zero_f32();
  for (std::size_t j = 0; j < kBlock; j += kF32Lanes) {
    sum = add(sum, softplus_f32(value_of(law, load_f32(products + j), j, allowed)));
  }
  running.sum += reduce_add(sum);
}

// A block's scales with zeros behind them, for each prefix; nullptr where there are none.
const float* block_scales(const Contrast& job, const Block& block, float* to) {
  if (job.column_scale == nullptr) return nullptr;
  for (std::size_t p = 0; p < job.p; ++p) {
    const float* from = job.column_scale + p * job.column_stride + block.first;
    for (std::size_t j = 0; j < kBlock; ++j) to[p * kBlock + j] = j < block.count ? from[j] : 0.0f;
  }
  return to;
}

const float* scales_of(const float* scales, std::size_t p) { return scales == nullptr ? nullptr : scales + p * kBlock; }

std::size_t padded_rows(std::size_t n) { return query_panels(n) * kStrip; }

// Both sides as products want them; the guide's, too.
struct Sides { float *rows, *columns, *guide_rows, *guide_columns; };

Sides take_sides(const Contrast& job, Scratch& scratch) {
  Sides sides{};
  sides.rows = scratch.take<float>(padded_rows(job.n) * job.d);
  sides.columns = scratch.take<float>(kBlock * job.d);
  pack_queries(job.rows, job.n, job.d, sides.rows);
  if (!has_guide(job)) return sides;
  sides.guide_rows = scratch.take<float>(padded_rows(job.n) * job.guide_d);
  sides.guide_columns = scratch.take<float>(kBlock * job.guide_d);
  pack_queries(job.guide_rows, job.n, job.guide_d, sides.guide_rows);
  return sides;
}

std::size_t sides_bytes(const Contrast& job) {
  std::size_t bytes = round_up(padded_rows(job.n) * job.d * 4) + round_up(kBlock * job.d * 4);
  if (has_guide(job)) {
    bytes += round_up(padded_rows(job.n) * job.guide_d * 4) + round_up(kBlock * job.guide_d * 4);
  }
  return bytes;
}

void pack_block(const float* columns, std::size_t d, const Block& block, float* panels) {
  pack_rows<ScalarType::kF32>(columns + block.first * d, block.count, d, panels, nullptr);
  const std::size_t packed = (block.count + kPanel - 1) / kPanel * kPanel;
  for (std::size_t at = packed * d; at < kBlock * d; ++at) panels[at] = 0.0f;
}

void pack_columns(const Contrast& job, const Block& block, const Sides& sides) {
  pack_block(job.columns, job.d, block, sides.columns);
  if (has_guide(job)) pack_block(job.guide_columns, job.guide_d, block, sides.guide_columns);
}

// The products of the strip that begins at `row`.
void multiply_sides(const Contrast& job, const Pieces& pieces, const Sides& sides, std::size_t row, Strip& strip) {
  multiply_prefixes(pieces, job.d, {sides.rows + row * job.d, sides.columns}, strip);
  if (!has_guide(job)) return;
  multiply_strip({sides.guide_rows + row * job.guide_d, sides.guide_columns}, job.guide_d, 0, job.guide_d, nullptr,
                 strip.guide);
}

}  // namespace

std::size_t contrast_forward_scratch(const Contrast& job) {
  return sides_bytes(job) + round_up(sizeof(Strip)) + round_up(kMaxPrefixes * kBlock * 4) +
         round_up(job.p * job.n * sizeof(Running));
}

void contrast_forward(const ContrastForward& whole) {
  const Contrast& job = whole.pairs;
  const Pieces pieces = cut(job);
  Scratch scratch{static_cast<char*>(whole.scratch)};
  const Sides sides = take_sides(job, scratch);
  Strip& strip = *scratch.take<Strip>(1);
  float* scale_room = scratch.take<float>(kMaxPrefixes * kBlock);
  Running* running = scratch.take<Running>(job.p * job.n);
  for (std::size_t i = 0; i < job.p * job.n; ++i) running[i] = {-kInfinity, 0.0f};
  for (std::size_t first = 0; first < job.c; first += kBlock) {
    const Block block{first, job.c - first < kBlock ? job.c - first : kBlock};
    pack_columns(job, block, sides);
    const float* scales = block_scales(job, block, scale_room);
    for (std::size_t row = 0; row < job.n; row += kStrip) {
      multiply_sides(job, pieces, sides, row, strip);
      for (std::size_t i = 0; i < kStrip && row + i < job.n; ++i) {
        allow(job, row + i, block, strip.guide[i], strip.allowed);
        for (std::size_t p = 0; p < job.p; ++p) {
          const Law law = law_of(job, p, row + i, scales_of(scales, p));
          Running& sum = running[p * job.n + row + i];
          job.sum == ContrastSum::kLogSumExp ? add_exponentials(law, strip.products[p][i], strip.allowed, sum)
                                             : add_softplus(law, strip.products[p][i], strip.allowed, sum);
        }
      }
    }
  }
  for (std::size_t p = 0; p < job.p; ++p) {
    for (std::size_t i = 0; i < job.n; ++i) {
      const Running& sum = running[p * job.n + i];
      const float out = job.sum == ContrastSum::kSoftplus ? sum.sum : sum.top + __builtin_logf(sum.sum);
      whole.out[p * job.row_stride + i] = sum.sum == 0.0f && job.sum == ContrastSum::kLogSumExp ? -kInfinity : out;
    }
  }
}

// ---- backward

namespace {

// Weights of a group of rows with a block of columns, for each piece of the dimensions.
using Weights = float[kGroup][kPitch];

// One side's rows as the second factor of a product with weights: for each panel of kPanel dimensions, row after row.
// Panels do not cross from piece to piece.
void pack_panels(const float* rows, std::size_t n, std::size_t room, std::size_t d, const Pieces& pieces,
                 float* panels) {
  for (std::size_t p = 0; p < pieces.count; ++p) {
    float* to = panels + pieces.panels[p] * kPanel * room;
    for (std::size_t begin = pieces.begin[p]; begin < pieces.begin[p + 1]; begin += kPanel, to += kPanel * room) {
      const std::size_t width = pieces.begin[p + 1] - begin < kPanel ? pieces.begin[p + 1] - begin : kPanel;
      for (std::size_t i = 0; i < room; ++i) {
        for (std::size_t j = 0; j < kPanel; ++j)
          to[i * kPanel + j] = i < n && j < width ? rows[i * d + begin + j] : 0.0f;
      }
    }
  }
}

// out (kTileQueries, kPanel) += sum over k < depth of weights[i * kAcross + k * kAlong] * panel[k]
template <std::size_t kAcross, std::size_t kAlong>
TSL_INLINE void accumulate_tile(const float* weights, const float* panel, std::size_t depth, float* out, std::size_t d,
                                std::size_t rows, std::size_t width) {
  F32 sums[kTileQueries][kTileVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kTileQueries; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) sums[i][v] = zero_f32();
  }
  for (std::size_t k = 0; k < depth; ++k, weights += kAlong, panel += kPanel) {
    F32 x[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) x[v] = load_f32(panel + v * kF32Lanes);
#pragma GCC unroll 16
    for (int i = 0; i < kTileQueries; ++i) {
      const F32 w = set_f32(weights[static_cast<std::size_t>(i) * kAcross]);
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) sums[i][v] = fma(w, x[v], sums[i][v]);
    }
  }
  const bool whole = width == kPanel;
#pragma GCC unroll 16
  for (int i = 0; i < kTileQueries; ++i) {
    if (static_cast<std::size_t>(i) >= rows) break;
    float* to = out + static_cast<std::size_t>(i) * d;
    if (whole) {
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v)
        store_f32(to + v * kF32Lanes, add(load_f32(to + v * kF32Lanes), sums[i][v]));
    } else {
      float lanes[kPanel];
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) store_f32(lanes + v * kF32Lanes, sums[i][v]);
      for (std::size_t j = 0; j < width; ++j) to[j] += lanes[j];
    }
  }
}

// gradient (count, d) += weights * panels, over all pieces. Weights of row i and step k lie at i * kAcross + k *
// kAlong.
template <std::size_t kAcross, std::size_t kAlong>
void accumulate(const Pieces& pieces, const Weights* weights, const float* panels, std::size_t room, std::size_t depth,
                std::size_t count, std::size_t d, float* gradient) {
  for (std::size_t p = 0; p < pieces.count; ++p) {
    const float* panel = panels + pieces.panels[p] * kPanel * room;
    for (std::size_t begin = pieces.begin[p]; begin < pieces.begin[p + 1]; begin += kPanel, panel += kPanel * room) {
      const std::size_t width = pieces.begin[p + 1] - begin < kPanel ? pieces.begin[p + 1] - begin : kPanel;
      for (std::size_t i = 0; i < count; i += kTileQueries) {
        const std::size_t rows = count - i < kTileQueries ? count - i : kTileQueries;
        accumulate_tile<kAcross, kAlong>(weights[p][0] + i * kAcross, panel, depth, gradient + i * d + begin, d, rows,
                                         width);
      }
    }
  }
}

// What a row has for the gradient of one prefix.
struct Slope {
  Law law;
  F32 gradient;  // of out; 0 where out is -inf
  F32 out;
  bool softplus;
};

Slope slope_of(const ContrastBackward& whole, std::size_t p, std::size_t row, const float* column_scale) {
  const std::size_t at = p * whole.pairs.row_stride + row;
  const bool empty = whole.out[at] == -kInfinity;
  return {law_of(whole.pairs, p, row, column_scale), set_f32(empty ? 0.0f : whole.out_gradient[at]),
          set_f32(empty ? 0.0f : whole.out[at]), whole.pairs.sum == ContrastSum::kSoftplus};
}

// Weights of a row in prefix p from its products, and what they add to the gradients of the scales. `after` has the
// weights of the prefixes that follow, nullptr behind the last.
float weigh(const Slope& slope, const float* products, const float* allowed, const float* after, float* weights,
            float* column_scale_sums) {
  F32 row_scale_sum = zero_f32();
  for (std::size_t j = 0; j < kBlock; j += kF32Lanes) {
    const F32 product = load_f32(products + j), value = value_of(slope.law, product, j, allowed);
    const F32 share = slope.softplus ? sigmoid_f32(value) : exp_f32(sub(value, slope.out));
    const F32 by_logit = mul(slope.gradient, share);
    const F32 column_scale = slope.law.column_scale == nullptr ? set_f32(1.0f) : load_f32(slope.law.column_scale + j);
    const F32 by_scaled = mul(by_logit, column_scale), by_row = mul(by_logit, slope.law.scale);
    row_scale_sum = fma(by_scaled, product, row_scale_sum);
    if (column_scale_sums != nullptr) {
      store_f32(column_scale_sums + j, fma(by_row, product, load_f32(column_scale_sums + j)));
    }
    const F32 weight = mul(by_scaled, slope.law.scale);
    store_f32(weights + j, after == nullptr ? weight : add(weight, load_f32(after + j)));
  }
  return reduce_add(row_scale_sum);
}

struct BackwardRoom {
  Sides sides;
  Strip* strip;
  Weights* weights;      // (p): of pieces
  float* row_panels;     // of all rows, group by group
  float* column_panels;  // of a block of columns
  float* scales;         // (p, kBlock)
  float* scale_sums;     // (p, kBlock)
};

// Weights of a group of rows with a block.
void weigh_group(const ContrastBackward& whole, const Pieces& pieces, const BackwardRoom& room, std::size_t first,
                 const Block& block, const float* scales) {
  const Contrast& job = whole.pairs;
  for (std::size_t row = first; row < first + kGroup && row < job.n; row += kStrip) {
    multiply_sides(job, pieces, room.sides, row, *room.strip);
    for (std::size_t i = 0; i < kStrip && row + i < job.n; ++i) {
      const std::size_t at = row - first + i;
      allow(job, row + i, block, room.strip->guide[i], room.strip->allowed);
      for (std::size_t p = job.p; p-- > 0;) {
        float* sums = scales == nullptr ? nullptr : room.scale_sums + p * kBlock;
        whole.row_scale_gradient[p * job.row_stride + row + i] +=
            weigh(slope_of(whole, p, row + i, scales_of(scales, p)), room.strip->products[p][i], room.strip->allowed,
                  p + 1 < job.p ? room.weights[p + 1][at] : nullptr, room.weights[p][at], sums);
      }
    }
  }
}

std::size_t groups_of(std::size_t n) { return (n + kGroup - 1) / kGroup; }

// Numbers of a group's panels.
std::size_t group_floats(const Pieces& pieces) { return pieces.panels[pieces.count] * kPanel * kGroup; }

BackwardRoom take_room(const Contrast& job, const Pieces& pieces, Scratch& scratch) {
  BackwardRoom room{};
  room.sides = take_sides(job, scratch);
  room.strip = scratch.take<Strip>(1);
  room.weights = scratch.take<Weights>(job.p);
  room.row_panels = scratch.take<float>(groups_of(job.n) * group_floats(pieces));
  room.column_panels = scratch.take<float>(pieces.panels[pieces.count] * kPanel * kBlock);
  room.scales = scratch.take<float>(kMaxPrefixes * kBlock);
  room.scale_sums = scratch.take<float>(kMaxPrefixes * kBlock);
  return room;
}

void add_scale_sums(const ContrastBackward& whole, const Block& block, const float* sums) {
  if (whole.pairs.column_scale == nullptr) return;
  for (std::size_t p = 0; p < whole.pairs.p; ++p) {
    float* to = whole.column_scale_gradient + p * whole.pairs.column_stride + block.first;
    for (std::size_t j = 0; j < block.count; ++j) to[j] += sums[p * kBlock + j];
  }
}

}  // namespace

std::size_t contrast_backward_scratch(const Contrast& job) {
  const Pieces pieces = cut(job);
  return sides_bytes(job) + round_up(sizeof(Strip)) + round_up(job.p * sizeof(Weights)) +
         round_up(groups_of(job.n) * group_floats(pieces) * 4) + round_up(pieces.panels[job.p] * kPanel * kBlock * 4) +
         2 * round_up(kMaxPrefixes * kBlock * 4);
}

void contrast_backward(const ContrastBackward& whole) {
  const Contrast& job = whole.pairs;
  const Pieces pieces = cut(job);
  Scratch scratch{static_cast<char*>(whole.scratch)};
  const BackwardRoom room = take_room(job, pieces, scratch);
  for (std::size_t group = 0; group < groups_of(job.n); ++group) {
    const std::size_t row = group * kGroup, rows = job.n - row < kGroup ? job.n - row : kGroup;
    pack_panels(job.rows + row * job.d, rows, kGroup, job.d, pieces, room.row_panels + group * group_floats(pieces));
  }
  for (std::size_t first = 0; first < job.c; first += kBlock) {
    const Block block{first, job.c - first < kBlock ? job.c - first : kBlock};
    pack_columns(job, block, room.sides);
    pack_panels(job.columns + first * job.d, block.count, kBlock, job.d, pieces, room.column_panels);
    const float* scales = block_scales(job, block, room.scales);
    __builtin_memset(room.scale_sums, 0, kMaxPrefixes * kBlock * sizeof(float));
    for (std::size_t row = 0; row < job.n; row += kGroup) {
      const std::size_t rows = job.n - row < kGroup ? job.n - row : kGroup;
      weigh_group(whole, pieces, room, row, block, scales);
      accumulate<kPitch, 1>(pieces, room.weights, room.column_panels, kBlock, block.count, rows, job.d,
                            whole.row_gradient + row * job.d);
      accumulate<1, kPitch>(pieces, room.weights, room.row_panels + row / kGroup * group_floats(pieces), kGroup, rows,
                            block.count, job.d, whole.column_gradient + first * job.d);
    }
    add_scale_sums(whole, block, room.scale_sums);
  }
}

}  // namespace tessella::TSL_LEVEL
