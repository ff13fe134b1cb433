#include "cuda/table.h"

#include "cuda/contrast.h"
#include "cuda/exact.h"
#include "cuda/kmeans.h"
#include "cuda/maxsim.h"
#include "cuda/pooling.h"
#include "cuda/pq.h"
#include "cuda/rotate.h"
#include "cuda/scalar.h"

namespace tessella::cuda {

const Kernels& kernels() {
  static const Kernels table = [] {
    Kernels made{};
    made.level = "cuda";
    made.exact_topk = &exact_topk;
    made.exact_topk_scratch = &exact_topk_scratch;
    made.exact_score = &exact_score;
    made.contrast_forward = &contrast_forward;
    made.contrast_forward_scratch = &contrast_forward_scratch;
    made.contrast_backward = &contrast_backward;
    made.contrast_backward_scratch = &contrast_backward_scratch;
    made.pooling_forward = &pooling_forward;
    made.pooling_scratch = &pooling_scratch;
    made.pooling_backward = &pooling_backward;
    made.kmeans_assign = &kmeans_assign;
    made.kmeans_assign_scratch = &kmeans_assign_scratch;
    made.maxsim_score = &maxsim_score;
    made.maxsim_scratch = &maxsim_scratch;
    // These name no stream: enqueued on the default one.
    made.rotate_forward = [](const Rotate& job) { rotate_forward(job, nullptr); };
    made.scalar_encode = [](const ScalarEncode& job) { scalar_encode(job, nullptr); };
    made.pq_table = [](const PqTable& job) {
      pq_table({job.query, 1, job.d, job.m, job.bits, job.codebooks, job.metric, job.table, nullptr});
    };
    return made;
  }();
  return table;
}

}  // namespace tessella::cuda
