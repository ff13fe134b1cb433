// k-means in two steps, for very many centroids.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "index/kmeans.h"

namespace tessella {

namespace {

constexpr double kFirst = 0.25;  // of the work, roughly: parting the rows

// Centroids for parts of so many rows: k in all, in proportion, at least one and at most its rows for a part that has
// any. What rounding leaves goes to the parts that are short of most.
std::vector<std::size_t> shares(const std::vector<std::size_t>& rows, std::size_t k) {
  const auto all = static_cast<double>(std::accumulate(rows.begin(), rows.end(), std::size_t{0}));
  std::vector<std::size_t> out(rows.size());
  const auto wanted = [&](std::size_t p) { return static_cast<double>(rows[p]) * static_cast<double>(k) / all; };
  std::size_t given = 0;
  for (std::size_t p = 0; p < rows.size(); ++p) {
    out[p] = std::min(rows[p], std::max<std::size_t>(rows[p] > 0 ? 1 : 0, static_cast<std::size_t>(wanted(p))));
    given += out[p];
  }
  const auto short_of = [&](std::size_t p) { return wanted(p) - static_cast<double>(out[p]); };
  for (; given != k; given < k ? ++given : --given) {
    std::size_t best = rows.size();
    for (std::size_t p = 0; p < rows.size(); ++p) {
      if (given < k ? out[p] == rows[p] : out[p] <= 1) continue;
      const bool better =
          best == rows.size() || (given < k ? short_of(p) > short_of(best) : short_of(p) < short_of(best));
      if (better) best = p;
    }
    given < k ? ++out[best] : --out[best];
  }
  return out;
}

}  // namespace

KmeansResult kmeans_train_parts(KernelsFn table, const float* x, std::size_t n, std::size_t d,
                                const KmeansConfig& config, std::size_t threads, const KmeansProgress& progress) {
  const auto report = [&](double from, double to) -> KmeansProgress {
    if (!progress) return {};
    return [&progress, from, to](double share) { progress(from + (to - from) * share); };
  };
  KmeansConfig how = config;
  how.k = static_cast<std::size_t>(std::lround(std::sqrt(static_cast<double>(config.k))));
  const KmeansResult parts = kmeans_train(table, x, n, d, how, threads, report(0.0, kFirst));
  std::vector<std::uint32_t> part(n);
  std::vector<float> similarity(n);
  kmeans_nearest(table(), x, n, d, parts.centroids.data(), how.k, config.spherical, threads, part.data(),
                 similarity.data());
  std::vector<std::size_t> rows(how.k, 0);
  for (const std::uint32_t p : part) ++rows[p];
  const std::vector<std::size_t> share = shares(rows, config.k);

  KmeansResult out;
  out.costs.assign(config.iterations, 0.0);
  double done = 0.0;
  std::vector<float> own;
  for (std::size_t p = 0; p < share.size(); ++p) {
    if (share[p] == 0) continue;
    own.clear();
    for (std::size_t i = 0; i < n; ++i) {
      if (part[i] == p) own.insert(own.end(), x + i * d, x + (i + 1) * d);
    }
    how.k = share[p];
    const double weight = static_cast<double>(rows[p]) / static_cast<double>(n);
    const KmeansResult found =
        kmeans_train(table, own.data(), rows[p], d, how, threads,
                     report(kFirst + (1.0 - kFirst) * done, kFirst + (1.0 - kFirst) * (done + weight)));
    done += weight;
    out.centroids.insert(out.centroids.end(), found.centroids.begin(), found.centroids.end());
    for (std::size_t i = 0; i < config.iterations; ++i) out.costs[i] += weight * found.costs[i];
  }
  return out;
}

}  // namespace tessella
