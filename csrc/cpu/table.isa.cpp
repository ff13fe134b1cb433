// The level's table: one line per kernel.
#include "cpu/kernels.isa.h"

namespace tessella::TSL_LEVEL {

#define TSL_STRING_(name) #name
#define TSL_STRING(name) TSL_STRING_(name)

Kernels kernel_table();
Kernels kernel_table() {
  Kernels table{};
  table.level = TSL_STRING(TSL_LEVEL);
  table.exact_topk = exact_topk;
  table.exact_topk_scratch = exact_topk_scratch;
  table.exact_score = exact_score;
  table.kmeans_assign = kmeans_assign;
  table.kmeans_assign_scratch = kmeans_assign_scratch;
  table.maxsim_score = maxsim_score;
  table.maxsim_scratch = maxsim_scratch;
  table.rotate_forward = rotate_forward;
  table.rotate_inverse = rotate_inverse;
  table.rabitq_encode = rabitq_encode;
  table.rabitq_table = rabitq_table;
  table.rabitq_scan = rabitq_scan;
  table.graph_encode = graph_encode;
  table.graph_scan = graph_scan;
  table.graph_dots = graph_dots;
  table.graph_near = graph_near;
  table.graph_merge = graph_merge;
  table.scalar_encode = scalar_encode;
  table.scalar_decode = scalar_decode;
  table.scalar_query = scalar_query;
  table.scalar_dot = scalar_dot;
  table.binary_encode = binary_encode;
  table.binary_hamming = binary_hamming;
  table.binary_dot = binary_dot;
  table.pq_encode = pq_encode;
  table.pq_encode_scratch = pq_encode_scratch;
  table.pq_rotate = pq_rotate;
  table.pq_update = pq_update;
  table.pq_table = pq_table;
  table.pq_pack = pq_pack;
  table.pq_scan = pq_scan;
  table.pq_sum = pq_sum;
  table.fde_encode = fde_encode;
  table.fde_encode_scratch = fde_encode_scratch;
  table.contrast_forward = contrast_forward;
  table.contrast_forward_scratch = contrast_forward_scratch;
  table.contrast_backward = contrast_backward;
  table.contrast_backward_scratch = contrast_backward_scratch;
  table.pooling_forward = pooling_forward;
  table.pooling_scratch = pooling_scratch;
  table.pooling_backward = pooling_backward;
  table.smve_encode = smve_encode;
  table.smve_encode_scratch = smve_encode_scratch;
  table.smve_score = smve_score;
  return table;
}

}  // namespace tessella::TSL_LEVEL
