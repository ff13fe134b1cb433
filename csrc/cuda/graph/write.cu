// Records of edges: a warp has a vertex, eight lanes an edge.
//
// Numerics: scales and terms are eight interleaved double sums, in the order of the CPU and without FMA, since the
// anchor is no float.
#include <string>

#include "cuda/device/convert.h"
#include "cuda/device/eight.h"
#include "cuda/graph.h"
#include "cuda/launch.h"
#include "cuda/shapes.h"
#include "tessella/errors.h"

namespace tessella::cuda {

namespace {

constexpr int kVertices = kRowThreads / kWarp;   // of a block
constexpr int kEdgesAtOnce = kWarp / kRowLanes;  // of a vertex
constexpr int kRun = kRowLanes * kRowLanes;      // dimensions whose bits make a byte in each lane

// What the lanes of an edge sum up, each over every eighth dimension.
struct EdgeSums {
  double square = 0.0, absolute = 0.0;  // of the edge
  double along = 0.0, signs = 0.0;      // of the edge, and of its signs, with the anchor
  double anchor2 = 0.0;

  __device__ void add(float edge, double anchor) {
    const auto r = static_cast<double>(edge);
    square = __dadd_rn(square, __dmul_rn(r, r));
    absolute = __dadd_rn(absolute, fabs(r));
    along = __dadd_rn(along, __dmul_rn(anchor, r));
    signs = __dadd_rn(signs, edge >= 0.0f ? anchor : -anchor);
    anchor2 = __dadd_rn(anchor2, __dmul_rn(anchor, anchor));
  }

  __device__ void fold() {
    square = sum_of_eight(square), absolute = sum_of_eight(absolute);
    along = sum_of_eight(along), signs = sum_of_eight(signs), anchor2 = sum_of_eight(anchor2);
  }

  __device__ float scale() const { return absolute > 0.0 ? static_cast<float>(square / absolute) : 0.0f; }

  __device__ float term(bool inner_product) const {
    const double off = __dmul_rn(static_cast<double>(scale()), signs);
    if (!inner_product)
      return static_cast<float>(__dadd_rn(2.0 * off, static_cast<double>(static_cast<float>(square))));
    return anchor2 > 0.0 ? static_cast<float>(__dadd_rn(off, -along) / anchor2) : 0.0f;
  }
};

// The edge to the neighbour in a lane of a record, into its block; its eight lanes call it together, a whole warp at a
// time.
__device__ inline void write_edge(const GraphWrite& job, std::size_t vertex, std::size_t lane, std::uint8_t* block) {
  const std::uint32_t row = job.neighbours[vertex * job.degree + lane];
  const bool there = row < job.n;
  const float* from = job.values + vertex * job.padded;
  const float* to = job.values + (there ? row : vertex) * job.padded;
  const std::size_t place = lane % kBlockRows;
  const auto own = static_cast<std::size_t>(row_lane());
  EdgeSums sums;
  for (std::size_t first = 0; first < job.padded; first += kRun) {
    unsigned bits = 0;
#pragma unroll
    for (std::size_t byte = 0; byte < kRowLanes; ++byte) {
      const std::size_t j = first + kRowLanes * byte + own;
      const float edge = __fsub_rn(to[j], from[j]);
      const double centre = job.centre != nullptr ? static_cast<double>(job.centre[j]) : 0.0;
      sums.add(edge, __dadd_rn(static_cast<double>(from[j]), centre));
      const unsigned signs = byte_of_row(there && edge >= 0.0f);
      if (byte == own) bits = signs;
    }
    block[(first / 8 + own) * kBlockRows + place] = static_cast<std::uint8_t>(bits);
  }
  sums.fold();
  if (own != 0) return;
  auto* factors = reinterpret_cast<BFloat*>(block + job.padded / 8 * kBlockRows);
  factors[place] = there ? from_float<BFloat>(sums.scale()) : BFloat{0};
  factors[kBlockRows + place] = there ? from_float<BFloat>(sums.term(job.centre != nullptr)) : BFloat{kNoTerm};
}

__global__ void __launch_bounds__(kRowThreads)
    graph_records(const GraphWrite job, std::size_t record_bytes, std::size_t block_bytes) {
  const std::size_t vertex = std::size_t{blockIdx.x} * kVertices + static_cast<std::size_t>(warp_index());
  if (vertex >= job.n) return;
  std::uint8_t* record = job.records + vertex * record_bytes;
  auto* numbers = reinterpret_cast<std::uint32_t*>(record);
  for (auto i = static_cast<std::size_t>(lane_index()); i < job.degree; i += kWarp) {
    numbers[i] = job.neighbours[vertex * job.degree + i];
  }
  if (!job.coded) return;
  for (auto i = static_cast<std::size_t>(lane_index() / kRowLanes); i < job.degree; i += kEdgesAtOnce) {
    write_edge(job, vertex, i, record + job.degree * sizeof(std::uint32_t) + i / kBlockRows * block_bytes);
  }
}

}  // namespace

void graph_write(const GraphWrite& job) {
  if (job.padded % kRun != 0 || job.degree % kBlockRows != 0) {
    throw Error(ErrorKind::kInvalidArgument,
                "graph_write: expected a multiple of 64 dimensions and of 32 neighbours; got " +
                    std::to_string(job.padded) + " and " + std::to_string(job.degree));
  }
  launch(graph_records, static_cast<unsigned>((job.n + kVertices - 1) / kVertices), kRowThreads, 0, job.stream, job,
         graph_record_bytes(job.degree, job.padded, job.coded), graph_block_bytes(job.padded));
}

}  // namespace tessella::cuda
