// The emulated exact family behind plain C functions, for ctypes.
#include "cuda/exact.h"
#include "library.h"
#include "simt.h"

namespace {

tessella::Metric metric_of(int metric) { return metric == 0 ? tessella::Metric::kL2 : tessella::Metric::kInnerProduct; }

}  // namespace

extern "C" {

void simt_order(unsigned order) { simt::set_order(order); }

int simt_exact_topk(const float* queries, std::size_t nq, const void* rows, int type, std::size_t n, std::size_t d,
                    int metric, std::int64_t first_row, const std::int64_t* ids, std::size_t k,
                    tessella::Candidate* best, char* error) {
  return simt::guarded(error, [&] {
    simt::Scratch scratch(tessella::cuda::exact_topk_scratch(nq, n, d, k));
    tessella::cuda::exact_topk({queries, nq, rows, static_cast<tessella::ScalarType>(type), n, d, metric_of(metric),
                                first_row, ids, k, best, scratch.data(), nullptr});
  });
}

int simt_exact_search(const float* queries, std::size_t nq, const void* rows, int type, std::size_t n, std::size_t d,
                      int metric, const std::int64_t* ids, std::size_t k, float* scores, std::int64_t* out_ids,
                      const std::uint64_t* allowed, int each, char* error) {
  return simt::guarded(error, [&] {
    simt::Scratch scratch(tessella::cuda::exact_search_scratch(nq, n, d, k, each != 0));
    tessella::cuda::exact_search({queries,
                                  nq,
                                  rows,
                                  static_cast<tessella::ScalarType>(type),
                                  n,
                                  d,
                                  metric_of(metric),
                                  ids,
                                  k,
                                  scores,
                                  out_ids,
                                  scratch.data(),
                                  nullptr,
                                  {allowed, (n + 63) / 64, each != 0}});
  });
}

int simt_exact_score(const float* query, const void* rows, int type, std::size_t d, int metric,
                     const std::uint32_t* which, const void* const* gather, std::size_t count, float* out,
                     char* error) {
  return simt::guarded(error, [&] {
    tessella::cuda::exact_score(
        {query, rows, static_cast<tessella::ScalarType>(type), d, metric_of(metric), which, count, out, gather});
  });
}

}  // extern "C"
