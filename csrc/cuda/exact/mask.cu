// The bitmaps of a tile of queries, joined: a thread has a word of them all. One pass over the bitmaps, a small part
// of what the scan of the rows reads.
#include "cuda/exact/mask.h"

#include "cuda/launch.h"
#include "cuda/shapes.h"

namespace tessella::cuda {

namespace {

__global__ void __launch_bounds__(kRowThreads)
    exact_join_masks(const std::uint64_t* words, std::size_t nq, std::size_t count, std::size_t tile,
                     std::uint64_t* out) {
  const std::size_t word = std::size_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (word >= count) return;
  std::uint64_t joined = 0;
  const std::size_t first = blockIdx.y * tile;
  for (std::size_t query = first; query < first + tile && query < nq; ++query) joined |= words[query * count + word];
  out[blockIdx.y * count + word] = joined;
}

}  // namespace

void join_masks(const std::uint64_t* words, std::size_t nq, std::size_t count, std::size_t tile, std::uint64_t* out,
                void* stream) {
  const dim3 grid(static_cast<unsigned>((count + kRowThreads - 1) / kRowThreads),
                  static_cast<unsigned>((nq + tile - 1) / tile));
  launch(exact_join_masks, grid, kRowThreads, 0, stream, words, nq, count, tile, out);
}

}  // namespace tessella::cuda
