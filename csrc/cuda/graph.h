// The graph family on CUDA: walks of many queries at once, and the making of a graph from a table of neighbours.
//
// Records are those of the CPU (index/links.h): `degree` row numbers and, where they are coded, `degree` / 32 blocks of
// tessella/graph.h. A walk takes its query in 8 bit planes (cuda/rabitq.h), so estimates differ from the CPU's in their
// last bits; reference/graph.py defines every result, and all are equal to it bit for bit.
//
// All pointers are device memory of the current device; everything is enqueued on `stream` and nothing waits. Each
// throws InvalidArgument for sizes that it cannot take, CudaError when a launch is refused.
#pragma once

#include "tessella/graph.h"

namespace tessella::cuda {

constexpr std::uint32_t kNoRow = UINT32_MAX;  // a lane without a neighbour
constexpr std::size_t kGraphMostRows = std::size_t{1} << 31;
constexpr std::size_t kGraphMostDegree = 256;

constexpr std::size_t graph_record_bytes(std::size_t degree, std::size_t padded, bool coded) {
  return degree * sizeof(std::uint32_t) + (coded ? degree / kBlockRows * graph_block_bytes(padded) : 0);
}

// What scores rows: U8 codes, or where `codes` is nullptr values.
struct GraphRows {
  const float* values;        // (n, D) R(x - centre), 16-byte aligned
  const std::uint8_t* codes;  // (n, D) of U8, 4-byte aligned
  const float* scales;        // (n) of the codes
  const float* norms2;        // (n) under squared distance
};

// A walk keeps the ef best rows it has met. The best that was not visited yet comes next: it is scored, its neighbours
// are estimated from its record and, if they reach the worst of a full list, get in once each; where records are not
// coded, the neighbours are scored themselves. The walk ends when all of the list were visited, or when the next falls
// below s - slack (most - s), s being the k-th best score; slack of infinity never ends it. It also ends when the rows
// met might fill more than half of its slots. Of scored rows the k best are returned, equal ones by smaller number.
//
// No row is looked at that no way leads to, whatever ef is. No two neighbours of a record are the same row.
struct GraphSearch {
  const float* queries;  // (nq, D) R(q), under squared distance R(q - centre); 16-byte aligned
  std::size_t nq;
  const float* adds;  // (nq) <q, centre>, or -|q - centre|^2
  const float* most;  // (nq) the best score there could be: 0 under squared distance
  std::size_t padded;
  Metric metric;
  const std::uint8_t* records;  // (n, graph_record_bytes), 128-byte aligned
  std::size_t n;                // at most kGraphMostRows
  std::size_t degree;           // a multiple of 32 up to kGraphMostDegree
  bool coded;
  GraphRows rows;
  const std::uint32_t* entries;  // (nq, entry_count) where each walk begins; those from n on count for nothing
  std::size_t entry_count;
  const std::uint32_t* allowed;  // bit i % 32 of word i / 32: row i may be returned; nullptr: all may
  std::size_t ef;
  std::size_t k;
  float slack;
  std::size_t slots;      // for the rows that a walk has met: a power of two
  float* scores;          // (nq, k) inner product, or squared distance; -inf or +inf in empty slots
  std::int64_t* found;    // (nq, k) row numbers, -1 in empty slots
  std::uint32_t* visits;  // (nq) rows visited
  void* scratch;          // graph_search_scratch(...) bytes, 64-byte aligned
  void* stream;
};
void graph_search(const GraphSearch& job);
// 4 bytes a slot for each walk that the device takes at once, of which there are at most 24 a multiprocessor.
std::size_t graph_search_scratch(std::size_t nq, std::size_t slots);

// Neighbours chosen from candidates, each row's by itself (index/prune.h). No row is its own neighbour, and none comes
// twice: of repeats the nearest counts.
struct GraphEdges {
  std::uint32_t* neighbours;  // (n, degree) in the order in which they are wanted, then kNoRow
  float* distances;           // (n, degree) squared; infinity where there is no neighbour
  std::uint32_t* wanted;      // (n) how many of them were chosen for their direction
};

struct GraphPrune {
  const float* values;  // (n, D), 16-byte aligned
  std::size_t n;
  std::size_t padded;
  const std::uint32_t* candidates;  // (n, count) row numbers in any order; those from n on count for nothing
  const float* distances;           // (n, count) squared, from the vertex
  std::size_t count;                // at most kGraphMostCandidates
  std::size_t degree;
  GraphEdges edges;  // out
  void* stream;
};
constexpr std::size_t kGraphMostCandidates = 1024;
void graph_prune(const GraphPrune& job);

// Links back: every row chooses once more, among its neighbours and the kGraphMostBack nearest rows that want it.
struct GraphLink {
  const float* values;  // (n, D), 16-byte aligned
  std::size_t n;
  std::size_t padded;
  std::size_t degree;  // n * degree is below 2^32
  GraphEdges from;     // of graph_prune
  GraphEdges edges;    // out, other memory
  void* scratch;       // graph_link_scratch(...) bytes
  void* stream;
};
constexpr std::size_t kGraphMostBack = 128;
void graph_link(const GraphLink& job);
constexpr std::size_t graph_link_scratch(std::size_t n, std::size_t degree) {
  return (n + n * degree) * sizeof(std::uint32_t);
}

// Records of edges; bits, scales and terms equal those of the contract's graph_encode.
struct GraphWrite {
  const float* values;  // (n, D)
  std::size_t n;
  std::size_t padded;
  const float* centre;              // (D) R(centre) under inner product, nullptr under squared distance
  const std::uint32_t* neighbours;  // (n, degree)
  std::size_t degree;
  bool coded;
  std::uint8_t* records;  // (n, graph_record_bytes) out, 4-byte aligned
  void* stream;
};
void graph_write(const GraphWrite& job);

}  // namespace tessella::cuda
