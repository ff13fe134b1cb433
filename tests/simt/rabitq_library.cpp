// The emulated rabitq family behind plain C functions, for ctypes.
#include "cuda/rabitq.h"
#include "library.h"

extern "C" {

int simt_rabitq_encode(const float* residuals, std::size_t n, std::size_t padded, std::uint8_t* bits,
                       tessella::RabitqFactors* factors, char* error) {
  return simt::guarded(error, [&] { tessella::cuda::rabitq_encode({residuals, n, padded, bits, factors, nullptr}); });
}

int simt_rabitq_planes(const float* queries, std::size_t nq, std::size_t padded, std::uint32_t* words, float* steps,
                       std::int32_t* sums, std::size_t planes, char* error) {
  return simt::guarded(error, [&] {
    tessella::cuda::rabitq_planes({queries, nq, padded, {words, steps, sums, static_cast<int>(planes)}, nullptr});
  });
}

int simt_rabitq_scan(const std::uint8_t* blocks, std::size_t n, std::size_t padded, std::size_t terms,
                     std::uint32_t* words, float* steps, std::int32_t* sums, std::size_t planes, std::size_t nq,
                     float factor, const float* adds, const float* epsilons, const float* thresholds,
                     tessella::RabitqHit* hits, std::size_t capacity, std::uint32_t* counts,
                     const std::uint32_t* allowed, std::size_t allowed_stride, char* error) {
  return simt::guarded(error, [&] {
    tessella::cuda::rabitq_scan({blocks,
                                 n,
                                 padded,
                                 terms != 0,
                                 {words, steps, sums, static_cast<int>(planes)},
                                 nq,
                                 factor,
                                 adds,
                                 epsilons,
                                 thresholds,
                                 hits,
                                 capacity,
                                 counts,
                                 allowed,
                                 allowed_stride,
                                 nullptr});
  });
}

}  // extern "C"
