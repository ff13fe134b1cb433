#include "index/kmeans.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "common/buffer.h"
#include "common/parallel.h"
#include "common/random.h"
#include "common/sums.h"
#include "index/flat.h"
#include "index/nearest.h"

namespace tessella {

namespace {

constexpr std::size_t kAssignRows = 2048;        // rows of a task: centroids are packed anew for each
constexpr std::uint64_t kSeed = 0x6B6D65616E73;  // of the rotation behind the codes
constexpr std::size_t kPlusPlusRows = 64;        // rows looked at for each centroid that k-means++ draws
constexpr std::size_t kPlusPlusCentroids = 64;   // beyond these, rows drawn at random do as well

struct Data {
  KernelsFn table;
  const Kernels& kernels;
  const float* x;
  std::size_t n, d;
  bool spherical;
  std::size_t threads;
};

double uniform(std::uint64_t seed, std::uint64_t i) {
  return static_cast<double>(splitmix64(splitmix64(seed) + i) >> 11) * 0x1p-53;
}

// `count` different numbers below n, ascending: the first of a shuffle that stops after them.
std::vector<std::size_t> draw(std::size_t n, std::size_t count, std::uint64_t seed) {
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (count >= n) return order;
  for (std::size_t i = 0; i < count; ++i) {
    const auto j = i + static_cast<std::size_t>(uniform(seed, i) * static_cast<double>(n - i));
    std::swap(order[i], order[std::min(j, n - 1)]);
  }
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

// At most `most` of the rows, drawn at random and in order; where they are all of them, nothing is copied.
class Drawn {
 public:
  Drawn(const Data& all, std::size_t most, std::uint64_t seed) : data_(all) {
    if (all.n <= most) return;
    rows_ = draw(all.n, most, seed);
    values_.resize(most * all.d);
    for (std::size_t i = 0; i < most; ++i) {
      std::memcpy(values_.data() + i * all.d, all.x + rows_[i] * all.d, all.d * sizeof(float));
    }
    data_.x = values_.data();
    data_.n = most;
  }
  Drawn(const Drawn&) = delete;  // data() points into it
  Drawn& operator=(const Drawn&) = delete;

  const Data& data() const { return data_; }
  const std::vector<std::size_t>& rows() const { return rows_; }  // empty: all

 private:
  Data data_;
  std::vector<std::size_t> rows_;
  std::vector<float> values_;
};

float norm2(const float* row, std::size_t d) { return static_cast<float>(dot(row, row, d)); }

void normalise(float* row, std::size_t d) {
  const float length = std::sqrt(norm2(row, d));
  if (length == 0.0f) return;
  for (std::size_t j = 0; j < d; ++j) row[j] /= length;
}

// Arthur & Vassilvitskii: each next centroid is drawn with probability proportional to its squared distance from those
// there are.
std::vector<float> plus_plus(const Data& data, std::size_t k, std::uint64_t seed) {
  const std::vector<std::size_t> rows = draw(data.n, kPlusPlusRows * k, seed);
  const std::vector<std::uint32_t> which(rows.begin(), rows.end());
  std::vector<float> cost(rows.size(), std::numeric_limits<float>::max()), similarity(rows.size());
  std::vector<float> centroids(k * data.d);
  auto chosen = static_cast<std::size_t>(uniform(seed + 1, 0) * static_cast<double>(rows.size()));
  for (std::size_t c = 0; c < k; ++c) {
    const float* centroid = data.x + rows[std::min(chosen, rows.size() - 1)] * data.d;
    std::memcpy(centroids.data() + c * data.d, centroid, data.d * sizeof(float));
    data.kernels.exact_score({centroid, data.x, ScalarType::kF32, data.d, Metric::kL2, which.data(), which.size(),
                              similarity.data(), nullptr});
    double total = 0.0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      cost[i] = std::min(cost[i], -similarity[i]);
      total += cost[i];
    }
    double left = uniform(seed + 1, c + 1) * total;
    for (chosen = 0; chosen + 1 < rows.size() && (left -= cost[chosen]) >= 0.0;) ++chosen;
  }
  return centroids;
}

std::vector<float> sampled(const Data& data, std::size_t k, std::uint64_t seed) {
  std::vector<float> centroids(k * data.d);
  const std::vector<std::size_t> rows = draw(data.n, k, seed);
  for (std::size_t c = 0; c < k; ++c) {
    std::memcpy(centroids.data() + c * data.d, data.x + rows[c % rows.size()] * data.d, data.d * sizeof(float));
  }
  return centroids;
}

struct Assignment {
  std::vector<std::uint32_t> nearest;
  std::vector<float> cost;  // squared distance, or 1 - inner product (spherical)
};

std::vector<float> offsets_of(const float* centroids, std::size_t k, std::size_t d) {
  std::vector<float> offsets(k);
  for (std::size_t c = 0; c < k; ++c) offsets[c] = norm2(centroids + c * d, d) / 2.0f;
  return offsets;
}

Assignment assign(const Data& data, const std::vector<float>& centroids) {
  Assignment out{std::vector<std::uint32_t>(data.n), std::vector<float>(data.n)};
  kmeans_nearest(data.kernels, data.x, data.n, data.d, centroids.data(), centroids.size() / data.d, data.spherical,
                 data.threads, out.nearest.data(), out.cost.data());
  for (std::size_t i = 0; i < data.n; ++i) {
    out.cost[i] = data.spherical ? 1.0f - out.cost[i] : norm2(data.x + i * data.d, data.d) - 2.0f * out.cost[i];
  }
  return out;
}

// The same through codes; costs are those by the 8-bit ones. `before`: where rows were nearest last, or nothing.
Assignment assign_assisted(const Data& data, const std::vector<float>& centroids,
                           std::span<const std::uint32_t> before) {
  const Metric metric = data.spherical ? Metric::kInnerProduct : Metric::kL2;
  auto all =
      std::make_unique<FlatIndex>(RowConfig{data.d, metric, false, parse_codecs({"B1", "U8"}), kSeed}, data.table);
  all->add(centroids.data(), centroids.size() / data.d, {}, data.threads);
  const NearestCentroids nearest(std::move(all), data.table, data.threads);
  Assignment out{std::vector<std::uint32_t>(data.n), std::vector<float>(data.n)};
  std::vector<std::int64_t> numbers(data.n);
  nearest.find(data.x, data.n, 1, data.threads, out.cost.data(), numbers.data(), before);
  for (std::size_t i = 0; i < data.n; ++i) {
    out.nearest[i] = static_cast<std::uint32_t>(std::max<std::int64_t>(numbers[i], 0));  // none: beyond all numbers
    if (data.spherical) out.cost[i] = 1.0f - out.cost[i];
  }
  return out;
}

// Rows of each centroid, in order: row numbers and where each centroid's begin.
struct Members {
  std::vector<std::uint32_t> rows;
  std::vector<std::size_t> begin;  // k + 1
  std::size_t size(std::size_t c) const { return begin[c + 1] - begin[c]; }
};

Members members_of(const std::vector<std::uint32_t>& nearest, std::size_t k) {
  Members members{std::vector<std::uint32_t>(nearest.size()), std::vector<std::size_t>(k + 1, 0)};
  for (const std::uint32_t c : nearest) ++members.begin[c + 1];
  std::partial_sum(members.begin.begin(), members.begin.end(), members.begin.begin());
  std::vector<std::size_t> next(members.begin.begin(), members.begin.end() - 1);
  for (std::size_t i = 0; i < nearest.size(); ++i) members.rows[next[nearest[i]]++] = static_cast<std::uint32_t>(i);
  return members;
}

// A centroid without rows takes the row that lies farthest from the centroid of the largest cluster, which from then
// on counts as half as large.
void repair_empty(const Data& data, const Members& members, const Assignment& found, std::vector<float>& centroids) {
  const std::size_t k = members.begin.size() - 1;
  std::vector<std::size_t> sizes(k);
  for (std::size_t c = 0; c < k; ++c) sizes[c] = members.size(c);
  std::vector<char> taken(data.n, 0);
  for (std::size_t c = 0; c < k; ++c) {
    if (members.size(c) != 0) continue;
    const auto largest = static_cast<std::size_t>(std::max_element(sizes.begin(), sizes.end()) - sizes.begin());
    sizes[largest] /= 2;
    std::size_t farthest = data.n;
    for (std::size_t i = members.begin[largest]; i < members.begin[largest + 1]; ++i) {
      const std::size_t row = members.rows[i];
      if (taken[row]) continue;
      if (farthest == data.n || found.cost[row] > found.cost[farthest]) farthest = row;
    }
    if (farthest == data.n) continue;
    taken[farthest] = 1;
    std::memcpy(centroids.data() + c * data.d, data.x + farthest * data.d, data.d * sizeof(float));
    if (data.spherical) normalise(centroids.data() + c * data.d, data.d);
  }
}

// Each centroid becomes the mean of its rows, summed in double precision and in row order.
void update(const Data& data, const Members& members, std::vector<float>& centroids) {
  const std::size_t k = members.begin.size() - 1;
  parallel_for(k, data.threads, [&](std::size_t c) {
    if (members.size(c) == 0) return;
    std::vector<double> sum(data.d, 0.0);
    for (std::size_t i = members.begin[c]; i < members.begin[c + 1]; ++i) {
      const float* row = data.x + members.rows[i] * data.d;
      for (std::size_t j = 0; j < data.d; ++j) sum[j] += row[j];
    }
    float* centroid = centroids.data() + c * data.d;
    for (std::size_t j = 0; j < data.d; ++j)
      centroid[j] = static_cast<float>(sum[j] / static_cast<double>(members.size(c)));
    if (data.spherical) normalise(centroid, data.d);
  });
}

double mean_cost(const Assignment& found) {
  return std::accumulate(found.cost.begin(), found.cost.end(), 0.0) / static_cast<double>(found.cost.size());
}

// A part of the work's way from 0 to 1.
struct Progress {
  const KmeansProgress& report;
  double from, to;

  void operator()(std::size_t done, std::size_t all) const {
    if (report) report(from + (to - from) * static_cast<double>(done) / static_cast<double>(all));
  }
};

KmeansResult lloyd(const Data& data, std::vector<float> centroids, std::size_t iterations, const Progress& progress) {
  KmeansResult out;
  const std::size_t k = centroids.size() / data.d;
  for (std::size_t i = 0; i < iterations; ++i) {
    Assignment found = k >= kAssisted ? assign_assisted(data, centroids, out.nearest) : assign(data, centroids);
    const Members members = members_of(found.nearest, k);
    out.costs.push_back(mean_cost(found));
    update(data, members, centroids);
    repair_empty(data, members, found, centroids);
    out.sizes.resize(k);
    for (std::size_t c = 0; c < k; ++c) out.sizes[c] = members.size(c);
    out.nearest = std::move(found.nearest);
    progress(i + 1, iterations);
  }
  out.centroids = std::move(centroids);
  return out;
}

}  // namespace

void kmeans_nearest(const Kernels& kernels, const float* x, std::size_t n, std::size_t d, const float* centroids,
                    std::size_t k, bool spherical, std::size_t threads, std::uint32_t* nearest, float* similarity) {
  const std::vector<float> offsets = spherical ? std::vector<float>{} : offsets_of(centroids, k, d);
  parallel_for((n + kAssignRows - 1) / kAssignRows, threads, [&](std::size_t task) {
    const std::size_t first = task * kAssignRows, count = std::min(kAssignRows, n - first);
    AlignedBuffer scratch(kernels.kmeans_assign_scratch(count, k, d));
    kernels.kmeans_assign({x + first * d, count, d, centroids, spherical ? nullptr : offsets.data(), k, nearest + first,
                           similarity + first, scratch.data(), nullptr});
  });
}

KmeansResult kmeans_train(KernelsFn table, const float* x, std::size_t n, std::size_t d, const KmeansConfig& config,
                          std::size_t threads, const KmeansProgress& progress) {
  const Drawn sample({table, table(), x, n, d, config.spherical, threads}, config.sample * config.k, config.seed);
  const Data& data = sample.data();
  std::vector<float> centroids =
      config.k <= kPlusPlusCentroids ? plus_plus(data, config.k, config.seed) : sampled(data, config.k, config.seed);
  if (config.spherical) {
    for (std::size_t c = 0; c < config.k; ++c) normalise(centroids.data() + c * d, d);
  }
  const Drawn few(data, config.warm != 0 ? kWarmRows * config.k : data.n, config.seed + 1);
  const double warm = static_cast<double>(config.warm * few.data().n);
  const double share = warm / (warm + static_cast<double>(config.iterations * data.n));  // of the work
  if (config.warm != 0) {
    centroids = lloyd(few.data(), std::move(centroids), config.warm, {progress, 0.0, share}).centroids;
  }
  KmeansResult out = lloyd(data, std::move(centroids), config.iterations, {progress, share, 1.0});
  out.rows = sample.rows();
  return out;
}

}  // namespace tessella
