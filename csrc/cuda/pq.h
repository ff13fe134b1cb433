// The pq family on CUDA: codes, tables of queries, and a scan that looks sums up in float tables at 4 and 8 bits.
//
// All pointers are device memory of the current device; everything is enqueued on `stream` and nothing waits. Each
// throws CudaError when a launch is refused.
#pragma once

#include "tessella/pq.h"

namespace tessella::cuda {

// The contract's pq_encode without inverse norms: the nearest codewords, equal bit for bit.
struct PqCodes {
  const float* rows;  // (n, d)
  std::size_t n;      // below 2^32
  std::size_t d;
  std::size_t m;           // divides d; at most 65,535 bytes of code
  int bits;                // 4 or 8
  const float* codebooks;  // (m, d/m, 2^bits)
  const float* biases;     // (m, 2^bits)
  std::uint8_t* codes;     // (n, pq_code_bytes) out
  void* stream;
};
void pq_encode(const PqCodes& job);

// The contract's pq_table for nq queries, equal bit for bit.
struct PqTables {
  const float* queries;  // (nq, d)
  std::size_t nq;
  std::size_t d;
  std::size_t m;
  int bits;
  const float* codebooks;  // (m, d/m, 2^bits)
  Metric metric;
  float* tables;  // (nq, m, 2^bits) out
  void* stream;
};
void pq_table(const PqTables& job);

// As the contract's PqScan, for any number of queries; at 4 bits too by the floats of pq_table, so that similarities
// are the contract's pq_sum less the term, bit for bit.
struct PqTableScan {
  const std::uint8_t* blocks;  // ceil(n/32) blocks of pq_block_bytes, 16-byte aligned
  std::size_t n;               // below 2^32; the last block may be partly filled
  std::size_t m;
  int bits;
  bool terms;
  const float* tables;  // (nq, m, 2^bits)
  std::size_t nq;
  const float* thresholds;  // (nq) rows below are dropped
  RabitqHit* hits;          // (nq, capacity) out, in no order; estimate and upper are both the similarity
  std::size_t capacity;
  std::uint32_t* counts;  // (nq) out: rows that reached the threshold; beyond `capacity` they are counted alone
  void* stream;
};
void pq_scan(const PqTableScan& job);

}  // namespace tessella::cuda
