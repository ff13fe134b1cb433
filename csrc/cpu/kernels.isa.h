// What each level defines; table.isa.cpp gathers them.
#pragma once

#include "tessella/kernels.h"

namespace tessella::TSL_LEVEL {

void exact_topk(const ExactTopK& job);
std::size_t exact_topk_scratch(std::size_t nq, std::size_t n, std::size_t d, std::size_t k);
void exact_score(const ExactScore& job);

void kmeans_assign(const KmeansAssign& job);
std::size_t kmeans_assign_scratch(std::size_t n, std::size_t k, std::size_t d);

void maxsim_score(const Maxsim& job);
std::size_t maxsim_scratch(std::size_t most, std::size_t d, TokenType type);

void rotate_forward(const Rotate& job);
void rotate_inverse(const Rotate& job);

void rabitq_encode(const float* residual, std::size_t padded, std::uint8_t* bits, RabitqFactors* factors);
void rabitq_table(const float* rotated_query, std::size_t padded, RabitqTable* table);
void rabitq_scan(const RabitqScan& job);

void graph_encode(const GraphEncode& job);
void graph_scan(const GraphScan& job);
void graph_dots(const GraphDots& job);
std::size_t graph_near(const GraphNear& job);
std::size_t graph_merge(const GraphMerge& job);

void scalar_encode(const ScalarEncode& job);
void scalar_decode(const std::uint8_t* codes, std::size_t n, std::size_t padded, int bits, ScalarGrid grid,
                   float* values);
void scalar_query(const float* rotated_query, std::size_t padded, ScalarQuery* out);
void scalar_dot(const ScalarDot& job);

void binary_encode(const float* x, std::size_t n, std::size_t d, const float* thresholds, std::uint8_t* codes);
void binary_hamming(const std::uint8_t* code, const std::uint8_t* rows, std::size_t n, std::size_t bytes,
                    std::int32_t* out);
void binary_dot(const float* query, const std::uint8_t* rows, std::size_t n, std::size_t d, float* out, float* scratch);

void pq_encode(const PqEncode& job);
std::size_t pq_encode_scratch(std::size_t d, std::size_t m);
void pq_rotate(const PqRotate& job);
void pq_update(const PqUpdate& job);
void pq_table(const PqTable& job);
void pq_pack(const float* table, std::size_t m, int bits, PqPacked* out);
void pq_scan(const PqScan& job);
void pq_sum(const PqSum& job);

void fde_encode(const FdeEncode& job);
std::size_t fde_encode_scratch(const FdeEncode& job);
void contrast_forward(const ContrastForward& job);
std::size_t contrast_forward_scratch(const Contrast& job);
void contrast_backward(const ContrastBackward& job);
std::size_t contrast_backward_scratch(const Contrast& job);

void pooling_forward(const Pool& job);
std::size_t pooling_scratch(const Pool& job);
void pooling_backward(const PoolGradient& job);

void smve_encode(const SmveEncode& job);
std::size_t smve_encode_scratch(const SmveEncode& job);
void smve_score(const SmveScore& job);

}  // namespace tessella::TSL_LEVEL
