// The emulated contrast family behind plain C functions, for ctypes.
#include "cuda/contrast.h"
#include "library.h"

namespace {

// A job as ctypes lays it out: addresses and sizes, in this order.
struct Job {
  const float *rows, *columns, *row_scale, *column_scale, *hardness, *row_bound;
  const std::int32_t *row_ids, *column_ids, *row_groups, *column_groups;
  const float *guide_rows, *guide_columns, *guide_bound;
  const std::uint32_t* prefixes;
  std::size_t n, c, d, p, k_ids, guide_d, softplus;
};

tessella::Contrast pairs_of(const Job& job) {
  tessella::Contrast pairs{};
  pairs.rows = job.rows, pairs.n = job.n, pairs.columns = job.columns, pairs.c = job.c, pairs.d = job.d;
  pairs.prefixes = job.prefixes, pairs.p = job.p;
  pairs.row_scale = job.row_scale, pairs.column_scale = job.column_scale;
  pairs.row_stride = job.n, pairs.column_stride = job.c;
  pairs.hardness = job.hardness, pairs.row_bound = job.row_bound;
  pairs.row_ids = job.row_ids, pairs.column_ids = job.column_ids, pairs.k_ids = job.k_ids;
  pairs.row_groups = job.row_groups, pairs.column_groups = job.column_groups;
  pairs.guide_rows = job.guide_rows, pairs.guide_columns = job.guide_columns, pairs.guide_d = job.guide_d;
  pairs.guide_bound = job.guide_bound;
  pairs.sum = job.softplus != 0 ? tessella::ContrastSum::kSoftplus : tessella::ContrastSum::kLogSumExp;
  return pairs;
}

}  // namespace

extern "C" {

int simt_contrast_forward(const Job* job, float* out, char* error) {
  return simt::guarded(error, [&] {
    const tessella::Contrast pairs = pairs_of(*job);
    simt::Scratch scratch(tessella::cuda::contrast_forward_scratch(pairs));
    tessella::cuda::contrast_forward({pairs, out, scratch.data(), nullptr});
  });
}

int simt_contrast_backward(const Job* job, const float* out, const float* out_gradient, float* row_gradient,
                           float* column_gradient, float* row_scale_gradient, float* column_scale_gradient,
                           char* error) {
  return simt::guarded(error, [&] {
    tessella::cuda::contrast_backward({pairs_of(*job), out, out_gradient, row_gradient, column_gradient,
                                       row_scale_gradient, column_scale_gradient, nullptr, nullptr});
  });
}

}  // extern "C"
