// The emulated graph family behind plain C functions, for ctypes.
#include "cuda/graph.h"
#include "library.h"

extern "C" {

int simt_graph_search(const float* queries, std::size_t nq, const float* adds, const float* most, std::size_t padded,
                      std::size_t l2, const std::uint8_t* records, std::size_t n, std::size_t degree, std::size_t coded,
                      const float* values, const std::uint8_t* codes, const float* scales, const float* norms2,
                      const std::uint32_t* entries, std::size_t entry_count, const std::uint32_t* allowed,
                      std::size_t ef, std::size_t k, float slack, std::size_t slots, float* scores, std::int64_t* found,
                      std::uint32_t* visits, char* error) {
  const auto metric = l2 != 0 ? tessella::Metric::kL2 : tessella::Metric::kInnerProduct;
  return simt::guarded(error, [&] {
    simt::Scratch scratch(tessella::cuda::graph_search_scratch(nq, slots));
    tessella::cuda::graph_search({queries,
                                  nq,
                                  adds,
                                  most,
                                  padded,
                                  metric,
                                  records,
                                  n,
                                  degree,
                                  coded != 0,
                                  {values, codes, scales, norms2},
                                  entries,
                                  entry_count,
                                  allowed,
                                  ef,
                                  k,
                                  slack,
                                  slots,
                                  scores,
                                  found,
                                  visits,
                                  scratch.data(),
                                  nullptr});
  });
}

int simt_graph_prune(const float* values, std::size_t n, std::size_t padded, const std::uint32_t* candidates,
                     const float* distances, std::size_t count, std::size_t degree, std::uint32_t* neighbours,
                     float* lengths, std::uint32_t* wanted, char* error) {
  return simt::guarded(error, [&] {
    tessella::cuda::graph_prune(
        {values, n, padded, candidates, distances, count, degree, {neighbours, lengths, wanted}, nullptr});
  });
}

int simt_graph_link(const float* values, std::size_t n, std::size_t padded, std::size_t degree,
                    std::uint32_t* neighbours, float* distances, std::uint32_t* wanted, std::uint32_t* new_neighbours,
                    float* new_distances, std::uint32_t* new_wanted, char* error) {
  return simt::guarded(error, [&] {
    simt::Scratch scratch(tessella::cuda::graph_link_scratch(n, degree));
    tessella::cuda::graph_link({values,
                                n,
                                padded,
                                degree,
                                {neighbours, distances, wanted},
                                {new_neighbours, new_distances, new_wanted},
                                scratch.data(),
                                nullptr});
  });
}

int simt_graph_write(const float* values, std::size_t n, std::size_t padded, const float* centre,
                     const std::uint32_t* neighbours, std::size_t degree, std::size_t coded, std::uint8_t* records,
                     char* error) {
  return simt::guarded(error, [&] {
    tessella::cuda::graph_write({values, n, padded, centre, neighbours, degree, coded != 0, records, nullptr});
  });
}

}  // extern "C"
