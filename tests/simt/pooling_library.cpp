// The emulated pooling family behind plain C functions, for ctypes.
#include "cuda/pooling.h"
#include "library.h"

namespace {

tessella::PoolInput input_of(const void* hidden, std::size_t kind, std::size_t d, const std::uint8_t* mask,
                             const tessella::PoolSegment* segments, std::size_t n, const std::uint8_t* modes,
                             std::size_t m) {
  const auto type = static_cast<tessella::ScalarType>(kind);
  return {hidden, type, d, mask, segments, n, reinterpret_cast<const tessella::PoolMode*>(modes), m};
}

}  // namespace

extern "C" {

int simt_pooling_forward(const void* hidden, std::size_t kind, std::size_t d, const std::uint8_t* mask,
                         const tessella::PoolSegment* segments, std::size_t n, const std::uint8_t* modes, std::size_t m,
                         const float* weight, const float* bias, std::size_t dim, std::size_t normalize,
                         std::size_t out_type, const float* scale, void* out, char* error) {
  return simt::guarded(error, [&] {
    tessella::Pool job{};
    job.input = input_of(hidden, kind, d, mask, segments, n, modes, m);
    job.weight = weight, job.bias = bias, job.dim = dim, job.normalize = normalize != 0;
    job.out_type = static_cast<tessella::PoolType>(out_type);
    job.scale = scale, job.out = out;
    tessella::cuda::pooling_forward(job);
  });
}

int simt_pooling_backward(const void* hidden, std::size_t kind, std::size_t d, const std::uint8_t* mask,
                          const tessella::PoolSegment* segments, std::size_t n, const std::uint8_t* modes,
                          std::size_t m, const float* pooled_gradient, std::size_t first_column, std::size_t columns,
                          std::size_t disjoint, float* hidden_gradient, char* error) {
  return simt::guarded(error, [&] {
    tessella::PoolGradient job{};
    job.input = input_of(hidden, kind, d, mask, segments, n, modes, m);
    job.pooled_gradient = pooled_gradient, job.hidden_gradient = hidden_gradient;
    job.first_column = first_column, job.columns = columns, job.disjoint = disjoint != 0;
    tessella::cuda::pooling_backward(job);
  });
}

}  // extern "C"
