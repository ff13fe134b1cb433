// The emulated k-means family behind plain C functions, for ctypes.
#include "cuda/kmeans.h"
#include "library.h"

extern "C" {

int simt_kmeans_assign(const float* rows, std::size_t n, std::size_t d, const float* centroids, const float* offsets,
                       std::size_t k, std::uint32_t* nearest, float* similarity, char* error) {
  return simt::guarded(error, [&] {
    simt::Scratch scratch(tessella::cuda::kmeans_assign_scratch(n, k, d));
    tessella::cuda::kmeans_assign({rows, n, d, centroids, offsets, k, nearest, similarity, scratch.data(), nullptr});
  });
}

}  // extern "C"
