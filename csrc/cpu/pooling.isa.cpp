// Pooling: four tokens at a time are added to the running sums of a segment, which stay in the first cache; the next
// four are fetched meanwhile, since the hardware does not follow four streams. Everything behind the sums happens while
// the segment's numbers are still there: only the result is written.
//
// Numerics: f32 sums, of four tokens and then one after the other; the length in f64.
#include "cpu/kernels.isa.h"
#include "cpu/scratch.isa.h"
#include "simd/sums.h"

namespace tessella::TSL_LEVEL {

namespace {

constexpr std::size_t kTokens = 4;
constexpr std::size_t kStripe = 64;  // columns whose largest values are sought at once, backwards

template <ScalarType kType>
TSL_INLINE F32 load_state(const char* row, std::size_t j) {
  if constexpr (kType == ScalarType::kF32) return load_f32(reinterpret_cast<const float*>(row) + j);
  if constexpr (kType == ScalarType::kF16) return load_f16(reinterpret_cast<const std::uint16_t*>(row) + j);
  return load_bf16(reinterpret_cast<const std::uint16_t*>(row) + j);
}

const char* state(const PoolInput& in, std::uint64_t token) {
  return static_cast<const char*>(in.hidden) + token * in.d * scalar_bytes(in.type);
}

bool counts(const PoolInput& in, std::uint64_t token) { return in.mask == nullptr || in.mask[token] != 0; }

// How many tokens count, what their places add up to, and the first and the last of them; kNone where none does.
struct Census {
  std::uint64_t count;
  double places;
  std::uint64_t first, last;
};

constexpr std::uint64_t kNone = ~std::uint64_t{0};

Census census_of(const PoolInput& in, const PoolSegment& segment) {
  Census census{0, 0.0, kNone, kNone};
  for (std::uint64_t token = segment.begin; token < segment.end; ++token) {
    if (!counts(in, token)) continue;
    ++census.count;
    census.places += static_cast<double>(token - segment.first + 1);
    census.last = token;
  }
  for (std::uint64_t token = segment.first; token < segment.end && census.first == kNone; ++token) {
    if (counts(in, token)) census.first = token;
  }
  return census;
}

// Running numbers of a segment, `width` of each kind that is asked for.
struct Sums {
  float* plain;
  float* weighted;
  float* top;
};

struct Four {
  const char* rows[kTokens];
  float weights[kTokens];
};

template <ScalarType kType, bool kPlain, bool kWeighted, bool kTop>
TSL_INLINE void add_four(const Four& four, std::size_t ahead_bytes, std::size_t width, const Sums& sums) {
  std::size_t j = 0;
  for (; j + kF32Lanes <= width; j += kF32Lanes) {
    F32 x[kTokens];
#pragma GCC unroll 4
    for (std::size_t t = 0; t < kTokens; ++t) {
      prefetch(four.rows[t] + ahead_bytes + j * scalar_bytes(kType));
      x[t] = load_state<kType>(four.rows[t], j);
    }
    if constexpr (kPlain)
      store_f32(sums.plain + j, add(load_f32(sums.plain + j), add(add(x[0], x[1]), add(x[2], x[3]))));
    if constexpr (kWeighted) {
      F32 sum = mul(x[0], set_f32(four.weights[0]));
#pragma GCC unroll 4
      for (std::size_t t = 1; t < kTokens; ++t) sum = fma(x[t], set_f32(four.weights[t]), sum);
      store_f32(sums.weighted + j, add(load_f32(sums.weighted + j), sum));
    }
    if constexpr (kTop) {
      store_f32(sums.top + j, max_f32(load_f32(sums.top + j), max_f32(max_f32(x[0], x[1]), max_f32(x[2], x[3]))));
    }
  }
  for (; j < width; ++j) {
    float sum = 0.0f, weighted = 0.0f;
    for (std::size_t t = 0; t < kTokens; ++t) {
      const float x = element<kType>(four.rows[t], j);
      sum += x;
      weighted = __builtin_fmaf(x, four.weights[t], weighted);
      if constexpr (kTop) sums.top[j] = x > sums.top[j] ? x : sums.top[j];
    }
    if constexpr (kPlain) sums.plain[j] += sum;
    if constexpr (kWeighted) sums.weighted[j] += weighted;
  }
}

// Tokens that are left over, one by one.
template <ScalarType kType, bool kPlain, bool kWeighted, bool kTop>
void add_one(const char* row, float weight, std::size_t width, const Sums& sums) {
  for (std::size_t j = 0; j < width; ++j) {
    const float x = element<kType>(row, j);
    if constexpr (kPlain) sums.plain[j] += x;
    if constexpr (kWeighted) sums.weighted[j] = __builtin_fmaf(x, weight, sums.weighted[j]);
    if constexpr (kTop) sums.top[j] = x > sums.top[j] ? x : sums.top[j];
  }
}

template <ScalarType kType, bool kPlain, bool kWeighted, bool kTop>
void add_tokens(const PoolInput& in, const PoolSegment& segment, std::size_t width, const Sums& sums) {
  const std::size_t ahead = kTokens * in.d * scalar_bytes(kType);
  Four four{};
  std::size_t filled = 0;
  for (std::uint64_t token = segment.begin; token < segment.end; ++token) {
    if (!counts(in, token)) continue;
    four.rows[filled] = state(in, token);
    four.weights[filled] = static_cast<float>(token - segment.first + 1);
    if (++filled < kTokens) continue;
    add_four<kType, kPlain, kWeighted, kTop>(four, ahead, width, sums);
    filled = 0;
  }
  for (std::size_t t = 0; t < filled; ++t) {
    add_one<kType, kPlain, kWeighted, kTop>(four.rows[t], four.weights[t], width, sums);
  }
}

using AddTokensFn = void (*)(const PoolInput&, const PoolSegment&, std::size_t, const Sums&);

template <ScalarType kType>
AddTokensFn add_tokens_for(bool plain, bool weighted, bool top) {
  constexpr AddTokensFn kAll[8] = {
      nullptr,
      add_tokens<kType, true, false, false>,
      add_tokens<kType, false, true, false>,
      add_tokens<kType, true, true, false>,
      add_tokens<kType, false, false, true>,
      add_tokens<kType, true, false, true>,
      add_tokens<kType, false, true, true>,
      add_tokens<kType, true, true, true>,
  };
  return kAll[(plain ? 1 : 0) + (weighted ? 2 : 0) + (top ? 4 : 0)];
}

// Which sums a list of modes needs, and who makes them; add is null for cls and last alone.
struct Plan {
  bool plain, weighted, top;
  AddTokensFn add;
};

Plan plan_of(const PoolInput& in) {
  Plan plan{};
  for (std::size_t i = 0; i < in.m; ++i) {
    plan.plain = plan.plain || in.modes[i] == PoolMode::kMean || in.modes[i] == PoolMode::kMeanSqrt;
    plan.weighted = plan.weighted || in.modes[i] == PoolMode::kWeighted;
    plan.top = plan.top || in.modes[i] == PoolMode::kMax;
  }
  switch (in.type) {
    case ScalarType::kF16: plan.add = add_tokens_for<ScalarType::kF16>(plan.plain, plan.weighted, plan.top); break;
    case ScalarType::kBF16: plan.add = add_tokens_for<ScalarType::kBF16>(plan.plain, plan.weighted, plan.top); break;
    default: plan.add = add_tokens_for<ScalarType::kF32>(plan.plain, plan.weighted, plan.top); break;
  }
  return plan;
}

float state_value(const PoolInput& in, const char* row, std::size_t j) {
  if (in.type == ScalarType::kF32) return element<ScalarType::kF32>(row, j);
  return in.type == ScalarType::kF16 ? element<ScalarType::kF16>(row, j) : element<ScalarType::kBF16>(row, j);
}

// What the sums are multiplied by.
float factor_of(PoolMode mode, const Census& census) {
  if (census.count == 0) return 0.0f;
  if (mode == PoolMode::kMean) return static_cast<float>(1.0 / static_cast<double>(census.count));
  if (mode == PoolMode::kWeighted) return static_cast<float>(1.0 / census.places);
  if (mode == PoolMode::kMeanSqrt) return static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(census.count)));
  return 1.0f;
}

void write_mode(const PoolInput& in, PoolMode mode, const Census& census, const Sums& sums, std::size_t width,
                float* out) {
  const std::uint64_t token = mode == PoolMode::kCls ? census.first : census.last;
  if (token == kNone) {
    __builtin_memset(out, 0, width * sizeof(float));
    return;
  }
  if (mode == PoolMode::kCls || mode == PoolMode::kLast) {
    for (std::size_t j = 0; j < width; ++j) out[j] = state_value(in, state(in, token), j);
    return;
  }
  const float* from = mode == PoolMode::kWeighted ? sums.weighted : mode == PoolMode::kMax ? sums.top : sums.plain;
  const float factor = factor_of(mode, census);
  for (std::size_t j = 0; j < width; ++j) out[j] = from[j] * factor;
}

// pooled (m * width) of one segment.
void pool_segment(const PoolInput& in, const Plan& plan, const PoolSegment& segment, std::size_t width,
                  const Sums& sums, float* pooled) {
  const Census census = census_of(in, segment);
  for (std::size_t j = 0; j < width; ++j) {
    sums.plain[j] = sums.weighted[j] = 0.0f;
    sums.top[j] = -__builtin_inff();
  }
  if (plan.add != nullptr) plan.add(in, segment, width, sums);
  for (std::size_t i = 0; i < in.m; ++i) write_mode(in, in.modes[i], census, sums, width, pooled + i * width);
}

// Products of one row of W with kTokens rows of pooled numbers, `pitch` apart.
void dot_four(const float* weight, const float* rows, std::size_t pitch, std::size_t count, float* out) {
  F32 sums[kTokens];
  for (F32& sum : sums) sum = zero_f32();
  std::size_t j = 0;
  for (; j + kF32Lanes <= count; j += kF32Lanes) {
    const F32 w = load_f32(weight + j);
#pragma GCC unroll 4
    for (std::size_t i = 0; i < kTokens; ++i) sums[i] = fma(w, load_f32(rows + i * pitch + j), sums[i]);
  }
  for (std::size_t i = 0; i < kTokens; ++i) {
    float sum = reduce_add(sums[i]);
    for (std::size_t tail = j; tail < count; ++tail) sum = __builtin_fmaf(weight[tail], rows[i * pitch + tail], sum);
    out[i] = sum;
  }
}

// y (kPoolGroup, dim) = pooled W^T + b; each row of W is read once.
void project(const Pool& job, const float* pooled, float* y) {
  const std::size_t count = job.input.m * job.input.d;
  for (std::size_t o = 0; o < job.dim; ++o) {
    const float bias = job.bias == nullptr ? 0.0f : job.bias[o];
    for (std::size_t i = 0; i < kPoolGroup; i += kTokens) {
      float products[kTokens];
      dot_four(job.weight + o * count, pooled + i * count, count, count, products);
      for (std::size_t t = 0; t < kTokens; ++t) y[(i + t) * job.dim + o] = products[t] + bias;
    }
  }
}

void scale_to_unit(float* y, std::size_t width) {
  F64x8 sums{};
  std::size_t j = 0;
  for (; j + 8 <= width; j += 8) {
    F64x8 x;
    load_f64x8(y + j, x);
    sums += x * x;
  }
  double norm2 = fold_f64x8(sums);
  for (; j < width; ++j) norm2 += static_cast<double>(y[j]) * static_cast<double>(y[j]);
  const double length = __builtin_sqrt(norm2);
  const float factor = static_cast<float>(1.0 / (length > 1e-12 ? length : 1e-12));
  for (j = 0; j < width; ++j) y[j] *= factor;
}

void write_f16(const float* y, std::size_t width, std::uint16_t* out) {
  std::size_t j = 0;
  for (; j + kF32Lanes <= width; j += kF32Lanes) store_f16(out + j, load_f32(y + j));
  for (; j < width; ++j) {
    std::uint16_t lanes[kF32Lanes];
    store_f16(lanes, set_f32(y[j]));
    out[j] = lanes[0];
  }
}

// As 0 .. 255 about 128, whose upper bit is then turned.
void write_s8(const float* y, const float* scale, std::size_t width, std::uint8_t* out) {
  const auto code = [](F32 x, F32 by) {
    const F32 inside = min_f32(max_f32(mul(x, by), set_f32(-127.0f)), set_f32(127.0f));
    return add(round_f32(inside), set_f32(128.0f));
  };
  std::size_t j = 0;
  for (; j + kF32Lanes <= width; j += kF32Lanes) store_round_u8(out + j, code(load_f32(y + j), load_f32(scale + j)));
  for (; j < width; ++j) {
    std::uint8_t lanes[kF32Lanes];
    store_round_u8(lanes, code(set_f32(y[j]), set_f32(scale[j])));
    out[j] = lanes[0];
  }
  for (j = 0; j < width; ++j) out[j] ^= 0x80;
}

void write_row(const Pool& job, const float* y, std::size_t width, std::size_t row) {
  std::uint8_t* out = static_cast<std::uint8_t*>(job.out) + row * pool_row_bytes(job.out_type, width);
  switch (job.out_type) {
    case PoolType::kF32: __builtin_memcpy(out, y, width * sizeof(float)); break;
    case PoolType::kF16: write_f16(y, width, reinterpret_cast<std::uint16_t*>(out)); break;
    case PoolType::kS8: write_s8(y, job.scale, width, out); break;
    case PoolType::kBits: binary_encode(y, 1, width, nullptr, out); break;
  }
}

// Columns of the states that are read, and numbers of a result.
std::size_t read_width(const Pool& job) { return job.weight != nullptr ? job.input.d : job.dim; }
std::size_t result_width(const Pool& job) { return job.weight != nullptr ? job.dim : job.input.m * job.dim; }

}  // namespace

std::size_t pooling_scratch(const Pool& job) {
  const std::size_t width = read_width(job);
  return 3 * round_up(width * 4) + round_up(kPoolGroup * job.input.m * width * 4) +
         round_up(kPoolGroup * result_width(job) * 4);
}

void pooling_forward(const Pool& job) {
  const PoolInput& in = job.input;
  const Plan plan = plan_of(in);
  const std::size_t width = read_width(job), out_width = result_width(job);
  Scratch scratch{static_cast<char*>(job.scratch)};
  Sums sums{};
  sums.plain = scratch.take<float>(width);
  sums.weighted = scratch.take<float>(width);
  sums.top = scratch.take<float>(width);
  float* pooled = scratch.take<float>(kPoolGroup * in.m * width);
  float* projected = scratch.take<float>(kPoolGroup * out_width);
  for (std::size_t first = 0; first < in.n; first += kPoolGroup) {
    const std::size_t count = in.n - first < kPoolGroup ? in.n - first : kPoolGroup;
    for (std::size_t i = 0; i < count; ++i) {
      pool_segment(in, plan, in.segments[first + i], width, sums, pooled + i * in.m * width);
    }
    if (job.weight != nullptr) {
      for (std::size_t i = count; i < kPoolGroup; ++i) {
        __builtin_memset(pooled + i * in.m * width, 0, in.m * width * sizeof(float));
      }
      project(job, pooled, projected);
    }
    float* rows = job.weight != nullptr ? projected : pooled;
    for (std::size_t i = 0; i < count; ++i) {
      if (job.normalize) scale_to_unit(rows + i * out_width, out_width);
      write_row(job, rows + i * out_width, out_width, first + i);
    }
  }
}

// ---- backward

namespace {

void add_scaled(float* to, const float* from, float factor, std::size_t count) {
  std::size_t j = 0;
  const F32 by = set_f32(factor);
  for (; j + kF32Lanes <= count; j += kF32Lanes) store_f32(to + j, fma(load_f32(from + j), by, load_f32(to + j)));
  for (; j < count; ++j) to[j] = __builtin_fmaf(from[j], factor, to[j]);
}

// The first token that has the largest value takes the gradient, column by column.
void give_to_largest(const PoolGradient& job, const PoolSegment& segment, const float* gradient) {
  const PoolInput& in = job.input;
  for (std::size_t done = 0; done < job.columns; done += kStripe) {
    const std::size_t count = job.columns - done < kStripe ? job.columns - done : kStripe;
    const std::size_t column = job.first_column + done;
    float top[kStripe];
    std::uint64_t at[kStripe];
    for (std::size_t j = 0; j < count; ++j) top[j] = -__builtin_inff(), at[j] = kNone;
    for (std::uint64_t token = segment.begin; token < segment.end; ++token) {
      if (!counts(in, token)) continue;
      const char* row = state(in, token);
      for (std::size_t j = 0; j < count; ++j) {
        const float x = state_value(in, row, column + j);
        if (at[j] != kNone && !(x > top[j])) continue;
        top[j] = x;
        at[j] = token;
      }
    }
    for (std::size_t j = 0; j < count; ++j) {
      if (at[j] != kNone) job.hidden_gradient[at[j] * in.d + column + j] += gradient[column + j];
    }
  }
}

// The modes that are weighted sums.
void give_shares(const PoolGradient& job, const PoolSegment& segment, PoolMode mode, const Census& census,
                 const float* gradient) {
  const PoolInput& in = job.input;
  const float factor = factor_of(mode, census);
  for (std::uint64_t token = segment.begin; token < segment.end; ++token) {
    if (!counts(in, token)) continue;
    const float weight = mode == PoolMode::kWeighted ? static_cast<float>(token - segment.first + 1) : 1.0f;
    add_scaled(job.hidden_gradient + token * in.d + job.first_column, gradient + job.first_column, weight * factor,
               job.columns);
  }
}

}  // namespace

void pooling_backward(const PoolGradient& job) {
  const PoolInput& in = job.input;
  for (std::size_t i = 0; i < in.n; ++i) {
    const Census census = census_of(in, in.segments[i]);
    for (std::size_t k = 0; k < in.m; ++k) {
      const float* gradient = job.pooled_gradient + (i * in.m + k) * in.d;
      const PoolMode mode = in.modes[k];
      if (mode == PoolMode::kMax) {
        give_to_largest(job, in.segments[i], gradient);
      } else if (mode != PoolMode::kCls && mode != PoolMode::kLast) {
        give_shares(job, in.segments[i], mode, census, gradient);
      } else if (const std::uint64_t token = mode == PoolMode::kCls ? census.first : census.last; token != kNone) {
        add_scaled(job.hidden_gradient + token * in.d + job.first_column, gradient + job.first_column, 1.0f,
                   job.columns);
      }
    }
  }
}

}  // namespace tessella::TSL_LEVEL
