// Launchers of the exact family's kernels; each only enqueues. exact.cu strings them together.
#pragma once

#include "cuda/exact/scan.h"
#include "tessella/exact.h"

namespace tessella::cuda {

// scan_*.cu: survivors of `scan` for segments x ceil(nq / tile) blocks.
void scan_direct(const Scan& scan, ScalarType type, Metric metric, std::uint32_t segments, void* stream);
void scan_product(const Scan& scan, ScalarType type, std::uint32_t segments, void* stream);
void scan_tensor(const Scan& scan, ScalarType type, std::uint32_t segments, void* stream);

// merge.cu: the survivors of all segments and the running lists -> the running lists, sorted.
void merge_survivors(const Shortlists& lists, Candidate* best, void* stream);

// prepare.cu. `type` is what the queries become: f16 or bf16 for the tensor cores, f32 to leave them as they are.
void prepare_queries(const float* queries, std::size_t nq, std::uint32_t d, ScalarType type, Metric metric,
                     const PreparedQueries& out, void* stream);
void row_half_norms(const void* rows, ScalarType type, std::size_t n, std::uint32_t d, float* out, void* stream);

// score.cu: lists (nq, count) found by a scan -> the k best of each, scored again pair by pair, as the public API
// gives them: scores (nq, k), ids (nq, k). `lists` is used up.
struct Finish {
  const float* queries;
  const void* rows;
  ScalarType type;
  std::uint32_t d;
  Metric metric;
  const std::int64_t* ids;
  const Candidate* lists;  // (nq, count)
  std::uint32_t nq;
  std::uint32_t count;
  std::uint32_t k;
  float* scores;          // similarity, or the squared distance; -inf or +inf where there is no row
  std::int64_t* out_ids;  // -1 where there is no row
};
void finish_lists(const Finish& finish, void* stream);
void clear_lists(Candidate* lists, std::size_t count, void* stream);  // to {-inf, -1}

}  // namespace tessella::cuda
