// The emulated exact family behind plain C functions, for ctypes. Each returns 0, or 1 with a message in `error`.
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>

#include "cuda/exact.h"
#include "simt.h"

namespace {

constexpr std::size_t kErrorBytes = 512;

// Scratch of exactly the promised size, full of NaN bytes: whoever counts on zeros or on more room is found out.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes)
      : memory_(static_cast<char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64 + 64)), &std::free) {
    std::memset(memory_.get(), 0xff, (bytes + 63) / 64 * 64 + 64);
  }
  void* data() { return memory_.get(); }

 private:
  std::unique_ptr<char, decltype(&std::free)> memory_;
};

template <class Body>
int guarded(char* error, const Body& body) {
  try {
    body();
    return 0;
  } catch (const std::exception& problem) {
    std::strncpy(error, problem.what(), kErrorBytes - 1);
    error[kErrorBytes - 1] = '\0';
    return 1;
  }
}

tessella::Metric metric_of(int metric) { return metric == 0 ? tessella::Metric::kL2 : tessella::Metric::kInnerProduct; }

}  // namespace

extern "C" {

void simt_order(unsigned order) { simt::set_order(order); }

int simt_exact_topk(const float* queries, std::size_t nq, const void* rows, int type, std::size_t n, std::size_t d,
                    int metric, std::int64_t first_row, const std::int64_t* ids, std::size_t k,
                    tessella::Candidate* best, char* error) {
  return guarded(error, [&] {
    Scratch scratch(tessella::cuda::exact_topk_scratch(nq, n, d, k));
    tessella::cuda::exact_topk({queries, nq, rows, static_cast<tessella::ScalarType>(type), n, d, metric_of(metric),
                                first_row, ids, k, best, scratch.data(), nullptr});
  });
}

int simt_exact_search(const float* queries, std::size_t nq, const void* rows, int type, std::size_t n, std::size_t d,
                      int metric, const std::int64_t* ids, std::size_t k, float* scores, std::int64_t* out_ids,
                      char* error) {
  return guarded(error, [&] {
    Scratch scratch(tessella::cuda::exact_search_scratch(nq, n, d, k));
    tessella::cuda::exact_search({queries, nq, rows, static_cast<tessella::ScalarType>(type), n, d, metric_of(metric),
                                  ids, k, scores, out_ids, scratch.data(), nullptr});
  });
}

int simt_exact_score(const float* query, const void* rows, int type, std::size_t d, int metric,
                     const std::uint32_t* which, std::size_t count, float* out, char* error) {
  return guarded(error, [&] {
    tessella::cuda::exact_score(
        {query, rows, static_cast<tessella::ScalarType>(type), d, metric_of(metric), which, count, out});
  });
}

}  // extern "C"
