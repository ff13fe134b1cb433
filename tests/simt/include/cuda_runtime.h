// What csrc/cuda uses of CUDA's own header, for the emulator.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#include "simt.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

// threadIdx and its kin: members that ask the running thread. (Macros would also catch members of that name.)
template <auto kWhich>
struct SimtBuiltin {
  struct X {
    operator unsigned() const { return (::simt::running->*kWhich).x; }
  } x;
  struct Y {
    operator unsigned() const { return (::simt::running->*kWhich).y; }
  } y;
  struct Z {
    operator unsigned() const { return (::simt::running->*kWhich).z; }
  } z;
};
inline constexpr SimtBuiltin<&::simt::Thread::thread> threadIdx{};
inline constexpr SimtBuiltin<&::simt::Thread::block> blockIdx{};
inline constexpr SimtBuiltin<&::simt::Thread::block_size> blockDim{};
inline constexpr SimtBuiltin<&::simt::Thread::grid_size> gridDim{};

struct float4 {
  alignas(16) float x;
  float y, z, w;
};

struct uint4 {
  alignas(16) unsigned x;
  unsigned y, z, w;
};

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}  // NOLINT: as CUDA's
};

// Words of a thread.
template <typename T>
T min(T a, T b) {
  return b < a ? b : a;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }

// Byte i of the result is the one of b:a (a lowest) that the i-th hexadecimal digit of the selector names.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const std::uint64_t bytes = std::uint64_t{b} << 32 | a;
  unsigned out = 0;
  for (unsigned i = 0; i < 4; ++i) out |= static_cast<unsigned>(bytes >> 8 * (selector >> 4 * i & 7u) & 0xffu) << 8 * i;
  return out;
}

// One rounding each, and none of them part of an FMA: the emulator is compiled without contraction.
inline int __dp4a(int a, int b, int c) {  // four products of signed bytes
  for (int i = 0; i < 4; ++i) {
    const auto byte = [i](int x) { return static_cast<int>(static_cast<signed char>((x >> (8 * i)) & 0xff)); };
    c += byte(a) * byte(b);
  }
  return c;
}
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }

template <typename To, typename From>
To simt_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}
inline unsigned __float_as_uint(float x) { return simt_bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return simt_bits<float>(x); }

inline unsigned atomicAdd(unsigned* to, unsigned value) {
  const unsigned before = *to;
  *to += value;
  return before;
}
inline unsigned atomicExch(unsigned* to, unsigned value) { return std::exchange(*to, value); }
inline unsigned atomicCAS(unsigned* to, unsigned expected, unsigned value) {
  return *to == expected ? std::exchange(*to, value) : *to;
}

// Words of a block.
inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  ::simt::meet({::simt::Scope::kBlock, 0, nullptr, nullptr, file, line});
}

inline int __syncthreads_or(int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const auto join = [](int* const* mine, unsigned count) {
    int any = 0;
    for (unsigned i = 0; i < count; ++i) any |= *mine[i] != 0;
    for (unsigned i = 0; i < count; ++i) *mine[i] = any;
  };
  ::simt::together(::simt::Scope::kBlock, 0, predicate, join, file, line);
  return predicate;
}

// Words of a warp.
inline void __syncwarp(unsigned mask = 0xffffffffu, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  ::simt::meet({::simt::Scope::kWarp, mask, nullptr, nullptr, file, line});
}

inline unsigned __ballot_sync(unsigned mask, bool predicate, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  unsigned vote = predicate;
  const auto join = [](unsigned* const* mine, unsigned count) {
    unsigned votes = 0;
    for (unsigned i = 0; i < count; ++i) votes |= mine[i] != nullptr ? *mine[i] << i : 0u;
    for (unsigned i = 0; i < count; ++i) {
      if (mine[i] != nullptr) *mine[i] = votes;
    }
  };
  ::simt::together(::simt::Scope::kWarp, mask, vote, join, file, line);
  return vote;
}

template <typename T>
struct SimtExchange {
  T value;
  unsigned source;  // lane; 32 and more: keep your own
  T result;
};

template <typename T>
T simt_exchange(unsigned mask, T value, unsigned source, const char* file, int line) {
  if (source < 32 && (mask >> source & 1u) == 0) ::simt::fail("reads from a lane outside the mask", file, line);
  SimtExchange<T> mine{value, source, value};
  const auto join = [](SimtExchange<T>* const* lanes, unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      if (lanes[i] != nullptr && lanes[i]->source < 32) lanes[i]->result = lanes[lanes[i]->source]->value;
    }
  };
  ::simt::together(::simt::Scope::kWarp, mask, mine, join, file, line);
  return mine.result;
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return simt_exchange(mask, value, static_cast<unsigned>(lane) % 32, file, line);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return simt_exchange(mask, value, ::simt::lane() ^ static_cast<unsigned>(bits), file, line);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, const char* file = __builtin_FILE(),
                 int line = __builtin_LINE()) {
  return simt_exchange(mask, value, ::simt::lane() < distance ? 32u : ::simt::lane() - distance, file, line);
}

// The host's side: one device; work is done when it is enqueued.
using cudaStream_t = void*;
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
struct cudaDeviceProp { char name[256]; };
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes;
  cudaStream_t stream;
};

cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t status);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);

namespace simt {
bool device_would_launch(const void* kernel, const cudaLaunchConfig_t& config);
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  if (!::simt::device_would_launch(reinterpret_cast<const void*>(kernel), *config)) return cudaErrorInvalidValue;
  const std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
  const auto index = [](dim3 d) { return ::simt::Index{d.x, d.y, d.z}; };
  ::simt::run({index(config->gridDim), index(config->blockDim), config->dynamicSmemBytes},
              [&] { std::apply(kernel, values); });
  return cudaSuccess;
}
