// Scalar codes: eight lanes a row, which have every eighth dimension. The fields of a byte of a 2-, 4- or 8-bit plane
// then stand in one lane; a byte of a 1-bit plane is one bit of each.
//
// Numerics: norms and scales are eight interleaved double sums, codes one f32 multiplication and one addition: the bits
// of the CPU.
#include "cuda/scalar.h"

#include <string>

#include "cuda/device/eight.h"
#include "cuda/device/shared.h"
#include "cuda/launch.h"
#include "cuda/shapes.h"
#include "tessella/errors.h"

namespace tessella::cuda {

namespace {

constexpr int kGroup = 64;                 // dimensions that share a run of planes
constexpr int kHeld = kGroup / kRowLanes;  // of a lane
constexpr int kRowsPerBlock = kRowThreads / kRowLanes;

// Lloyd's cells end half-way between levels, on half units; cells[y] is the code of half units y to y + 1.
struct LloydTables {
  std::uint8_t levels[16];
  std::uint8_t cells[2 * kLloydLevels[15] + 1];
};

constexpr LloydTables make_tables() {
  LloydTables made{};
  for (int level = 0; level < 16; ++level) {
    made.levels[level] = kLloydLevels[level];
    const int first = level == 0 ? 0 : kLloydLevels[level - 1] + kLloydLevels[level];
    for (int y = first; y <= 2 * kLloydLevels[15]; ++y) made.cells[y] = static_cast<std::uint8_t>(level);
  }
  return made;
}

// What the grid makes of a row's coordinates: u = rint(clamp(r * inverse_step + middle, 0, top)), for Lloyd a cell.
struct Grid {
  ScalarGrid kind;
  double step;  // of the uniform grid, in units of |r| / sqrt(D)
  float middle;
  float top;
};

Grid grid_of(ScalarGrid kind, int bits) {
  if (kind == ScalarGrid::kLloyd) return {kind, 0.0, 2.0f * kLloydMiddle - 0.5f, 4.0f * kLloydMiddle};
  const auto top = static_cast<float>((1 << bits) - 1);
  return {kind, kUniformSteps[bits], 0.5f * top, top};
}

__device__ inline std::uint32_t code_of(float r, float inverse_step, const Grid& grid) {
  const float x = __fadd_rn(__fmul_rn(r, inverse_step), grid.middle);
  return static_cast<std::uint32_t>(rintf(fminf(fmaxf(x, 0.0f), grid.top)));
}

// One plane of the lane's codes: byte t of the lane holds dimensions t, t + kPlane, ... of its own, from bit 0.
template <int kPlane>
__device__ inline void write_plane(const std::uint32_t (&u)[kHeld], int shift, bool valid, std::uint8_t* plane) {
  constexpr std::uint32_t kMask = (1u << kPlane) - 1;
#pragma unroll
  for (int t = 0; t < kPlane; ++t) {
    std::uint32_t byte = 0;
#pragma unroll
    for (int field = 0; field < kHeld / kPlane; ++field) {
      byte |= (u[t + kPlane * field] >> shift & kMask) << (kPlane * field);
    }
    if (valid) plane[kRowLanes * t + row_lane()] = static_cast<std::uint8_t>(byte);
  }
}

template <>
__device__ inline void write_plane<1>(const std::uint32_t (&u)[kHeld], int shift, bool valid, std::uint8_t* plane) {
  std::uint32_t own = 0;
#pragma unroll
  for (int t = 0; t < kHeld; ++t) {
    const unsigned byte = byte_of_row((u[t] >> shift & 1u) != 0);
    if (t == row_lane()) own = byte;
  }
  if (valid) plane[row_lane()] = static_cast<std::uint8_t>(own);
}

// The codes of 64 dimensions: planes one after another, high bits first.
template <int kBits>
__device__ inline void write_codes(const std::uint32_t (&u)[kHeld], bool valid, std::uint8_t* codes) {
  if constexpr (kBits == 8) {
    write_plane<8>(u, 0, valid, codes);
  } else {
    if constexpr ((kBits & 4) != 0) write_plane<4>(u, kBits - 4, valid, codes);
    if constexpr ((kBits & 2) != 0) write_plane<2>(u, kBits & 1, valid, codes + 8 * (kBits & 4));
    if constexpr ((kBits & 1) != 0) write_plane<1>(u, 0, valid, codes + 8 * (kBits & 6));
  }
}

template <int kBits>
__global__ void __launch_bounds__(kRowThreads)
    scalar_codes(const ScalarEncode job, const Grid grid, const LloydTables tables) {
  auto& shared = dynamic_shared<LloydTables>();
  for (unsigned i = threadIdx.x; i < sizeof(LloydTables); i += kRowThreads) {
    reinterpret_cast<std::uint8_t*>(&shared)[i] = reinterpret_cast<const std::uint8_t*>(&tables)[i];
  }
  __syncthreads();
  const std::size_t at = std::size_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / kRowLanes;
  const bool valid = at < job.n;
  const std::size_t row = valid ? at : job.n - 1;
  const float* own = job.residuals + row * job.padded + row_lane();
  double norm2 = 0.0;
  for (std::size_t j = 0; j < job.padded; j += kRowLanes) {
    norm2 += static_cast<double>(own[j]) * static_cast<double>(own[j]);
  }
  norm2 = sum_of_eight(norm2);
  const double sigma = sqrt(norm2 / static_cast<double>(job.padded));
  const double step = grid.kind == ScalarGrid::kLloyd ? sigma / (2.0 * kLloydUnit) : sigma * grid.step;
  const bool flat = !(step > 1e-37);
  const float inverse_step = flat ? 0.0f : static_cast<float>(1.0 / step);
  std::uint8_t* codes = job.codes + row * (job.padded / 8 * kBits);
  double along = 0.0;
  for (std::size_t first = 0; first < job.padded; first += kGroup, codes += kGroup / 8 * kBits) {
    std::uint32_t u[kHeld];
#pragma unroll
    for (int t = 0; t < kHeld; ++t) {
      const float r = own[first + static_cast<std::size_t>(kRowLanes * t)];
      u[t] = code_of(r, inverse_step, grid);
      float value = static_cast<float>(u[t]) - grid.middle;
      if (grid.kind == ScalarGrid::kLloyd) {
        u[t] = shared.cells[u[t]];
        value = static_cast<float>(shared.levels[u[t]]) - kLloydMiddle;
      }
      along += static_cast<double>(value) * static_cast<double>(r);
    }
    write_codes<kBits>(u, valid, codes);
  }
  along = sum_of_eight(along);
  if (!valid || row_lane() != 0) return;
  job.scales[row] = flat ? 0.0f : static_cast<float>(norm2 / along);
  if (job.norms2 != nullptr) job.norms2[row] = static_cast<float>(norm2);
}

template <int kBits>
void launch_codes(const ScalarEncode& job, void* stream) {
  static constexpr LloydTables kTables = make_tables();
  const auto blocks = static_cast<unsigned>((job.n + kRowsPerBlock - 1) / kRowsPerBlock);
  launch(scalar_codes<kBits>, blocks, kRowThreads, sizeof(LloydTables), stream, job, grid_of(job.grid, job.bits),
         kTables);
}

}  // namespace

void scalar_encode(const ScalarEncode& job, void* stream) {
  if (job.n == 0) return;
  switch (job.bits) {
    case 2: return launch_codes<2>(job, stream);
    case 3: return launch_codes<3>(job, stream);
    case 4: return launch_codes<4>(job, stream);
    case 5: return launch_codes<5>(job, stream);
    case 6: return launch_codes<6>(job, stream);
    case 7: return launch_codes<7>(job, stream);
    case 8: return launch_codes<8>(job, stream);
    default:
      throw Error(ErrorKind::kInvalidArgument, "scalar_encode: expected 2 to 8 bits; got " + std::to_string(job.bits));
  }
}

}  // namespace tessella::cuda
