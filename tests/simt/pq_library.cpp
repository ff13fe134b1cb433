// The emulated pq family behind plain C functions, for ctypes.
#include "cuda/pq.h"
#include "library.h"

extern "C" {

int simt_pq_encode(const float* rows, std::size_t n, std::size_t d, std::size_t m, std::size_t bits,
                   const float* codebooks, const float* biases, std::uint8_t* codes, char* error) {
  return simt::guarded(error, [&] {
    tessella::cuda::pq_encode({rows, n, d, m, static_cast<int>(bits), codebooks, biases, codes, nullptr});
  });
}

int simt_pq_table(const float* queries, std::size_t nq, std::size_t d, std::size_t m, std::size_t bits,
                  const float* codebooks, std::size_t l2, float* tables, char* error) {
  const auto metric = l2 != 0 ? tessella::Metric::kL2 : tessella::Metric::kInnerProduct;
  return simt::guarded(error, [&] {
    tessella::cuda::pq_table({queries, nq, d, m, static_cast<int>(bits), codebooks, metric, tables, nullptr});
  });
}

int simt_pq_scan(const std::uint8_t* blocks, std::size_t n, std::size_t m, std::size_t bits, std::size_t terms,
                 const float* tables, std::size_t nq, const float* thresholds, tessella::RabitqHit* hits,
                 std::size_t capacity, std::uint32_t* counts, char* error) {
  return simt::guarded(error, [&] {
    tessella::cuda::pq_scan(
        {blocks, n, m, static_cast<int>(bits), terms != 0, tables, nq, thresholds, hits, capacity, counts, nullptr});
  });
}

}  // extern "C"
