// k-means, of all centroids at once or of parts: the same centroids from the same rows and seed, at any number of
// threads.
#pragma once

#include <functional>
#include <vector>

#include "index/rows.h"

namespace tessella {

constexpr std::size_t kWarmRows = 16;

struct KmeansConfig {
  std::size_t k = 0;
  std::size_t iterations = 10;  // of Lloyd's algorithm over all centroids
  bool spherical = false;       // nearest by inner product, centroids of unit length
  std::uint64_t seed = 0;
  std::size_t sample = 256;  // rows drawn for each centroid; more rows are not looked at
  std::size_t warm = 0;      // iterations beforehand, over kWarmRows rows for each centroid
};

struct KmeansResult {
  std::vector<float> centroids;        // (k, d)
  std::vector<std::size_t> sizes;      // (k) rows of the sample nearest to each
  std::vector<std::uint32_t> nearest;  // centroid of each row looked at, before the last update
  std::vector<std::size_t> rows;       // those rows; empty: all of them
  std::vector<double> costs;           // per iteration: mean squared distance, or 1 - mean inner product (spherical)
};

// Called between steps with the share of the work done; what it throws ends the training.
using KmeansProgress = std::function<void(double share)>;

// x (n, d), n >= k. From kAssisted centroids on, a row's nearest is found by a scan of the centroids' 1-bit codes and a
// few of their 8-bit ones: several times less work than n*k*d multiply-adds, for one row in a hundred not quite the
// nearest.
constexpr std::size_t kAssisted = 512;
KmeansResult kmeans_train(KernelsFn table, const float* x, std::size_t n, std::size_t d, const KmeansConfig& config,
                          std::size_t threads, const KmeansProgress& progress);

// The same in two steps: rows are parted into about sqrt(k), and each part gets centroids of its own, in proportion to
// its rows. About 2 sqrt(k) * d multiply-adds a row instead of k * d, for 5 to 20 % more cost.
// `sizes`, `nearest` and `rows` stay empty; costs are means over the parts.
KmeansResult kmeans_train_parts(KernelsFn table, const float* x, std::size_t n, std::size_t d,
                                const KmeansConfig& config, std::size_t threads, const KmeansProgress& progress);

// Nearest centroid of each row and its similarity (see tessella/kmeans.h); outputs of n entries.
void kmeans_nearest(const Kernels& kernels, const float* x, std::size_t n, std::size_t d, const float* centroids,
                    std::size_t k, bool spherical, std::size_t threads, std::uint32_t* nearest, float* similarity);

}  // namespace tessella
