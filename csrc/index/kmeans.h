// k-means, flat and hierarchical: the same centroids from the same rows and seed, at any number of threads.
#pragma once

#include <functional>
#include <vector>

#include "tessella/kernels.h"

namespace tessella {

struct KmeansConfig {
  std::size_t k = 0;
  std::size_t iterations = 10;  // of Lloyd's algorithm over all centroids
  bool spherical = false;       // nearest by inner product, centroids of unit length
  std::uint64_t seed = 0;
  std::size_t sample = 256;  // rows drawn for each centroid; more rows are not looked at
};

struct KmeansResult {
  std::vector<float> centroids;    // (k, d)
  std::vector<std::size_t> sizes;  // (k) rows of the sample nearest to each
  std::vector<double> costs;       // per iteration: mean squared distance, or 1 - mean inner product (spherical)
};

// Called between steps with the share of the work done; what it throws ends the training.
using KmeansProgress = std::function<void(double share)>;

// x (n, d), n >= k. From kHierarchical centroids on, rows are first split coarsely and each part on its own, so that
// the iterations over all centroids start from a good and balanced place.
constexpr std::size_t kHierarchical = 512;
KmeansResult kmeans_train(const Kernels& kernels, const float* x, std::size_t n, std::size_t d,
                          const KmeansConfig& config, std::size_t threads, const KmeansProgress& progress);

// Nearest centroid of each row and its similarity (see tessella/kmeans.h); outputs of n entries.
void kmeans_nearest(const Kernels& kernels, const float* x, std::size_t n, std::size_t d, const float* centroids,
                    std::size_t k, bool spherical, std::size_t threads, std::uint32_t* nearest, float* similarity);

}  // namespace tessella
