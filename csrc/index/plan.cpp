#include "index/plan.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>

namespace tessella {

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// Nanoseconds, fitted to searches of 61,436 rows of 384 dimensions on one core of an AMD EPYC with AVX-512 (see
// docs/concepts/filters.md); what a row costs that is sorted into its list, a hit that does not count, and a query that
// has nothing but rows gathered, on an Intel Xeon with AVX-512 (`python -m bench.filtered --stage costs regret`).
constexpr double kQuery = 3000.0;                        // tables of a query
constexpr double kGatherQuery = 1300.0;                  // …, those for a scan not among them
constexpr double kGatherRow = 8.0, kGatherByte = 0.035;  // a row from anywhere, and each byte of its code
constexpr double kScanByte = 0.023;                      // a byte of a block of estimates
constexpr double kLookUp = 0.6;                          // a piece of an 8-bit product code
constexpr double kRun = 70.0;                            // of blocks: its hits are sifted by themselves
constexpr double kSifted = 29.0;                         // a hit that does not count
constexpr double kRefined = 60.0;                        // a row on its way from estimate to score, beside that
constexpr double kList = 400.0;                          // a list that is scanned: its first bytes arrive
constexpr double kShortList = 60.0;                      // one whose rows are scored one by one
constexpr double kCentroid = 1.5, kOrdered = 120.0;      // a centroid by estimate; one of those put in order
constexpr double kScored = 14.0, kPlaced = 30.0;         // a centroid by its code; one of those put in order
constexpr double kVisit = 250.0;                         // a step of a walk, beside what it reads
constexpr std::size_t kCacheBytes = 32 << 20;            // codes beyond that
constexpr double kFar = 2.5;                             // cost so many times as much a byte

double at_least_one(double share) { return 1.0 - std::pow(1.0 - share, static_cast<double>(kBlockRows)); }

}  // namespace

Ground::Ground(const RowScorer& scorer, std::size_t rows_there) : rows(rows_there) {
  gathered = block = run = list = number = visit = copied = estimate_ = kNever;
  const RowConfig& config = scorer.rows().config();
  const std::size_t padded = scorer.rows().padded();
  if (const Codec* fine = scorer.fine()) {
    const bool raw = fine->kind == Codec::Kind::kRaw;
    const std::size_t bytes = raw ? config.dim * scalar_bytes(fine->type) : padded * fine->bits / 8;
    const double far = bytes * rows > kCacheBytes ? kFar : 1.0;
    gathered = kGatherRow + far * kGatherByte * static_cast<double>(bytes);
  }
  if (const PqShape* pq = scorer.rows().pq_shape()) {
    const auto pieces = static_cast<double>(pq->pieces());
    estimate_ = pq->bits() == 8 ? kBlockRows * pieces * kLookUp : kBlockRows * pieces / 2 * kScanByte;
  } else {
    estimate_ = kScanByte * static_cast<double>(kBlockRows * (padded / 8 + 4));
  }
}

void Ground::offer_scan() {
  block = estimate_;
  run = kRun;
}

void Ground::offer_lists(std::size_t count, std::size_t nprobe, bool scans_codes) {
  lists = count;
  effort = nprobe;
  list = kList;
  number = Ground::kNumber;
  block = scans_codes ? estimate_ : kNever;
}

void Ground::offer_walk(std::size_t ef, std::size_t degree, bool coded) {
  effort = ef;
  const auto edges = static_cast<double>(degree);
  visit = kVisit + (coded ? edges / kBlockRows * estimate_ + gathered : edges * gathered);
}

void Ground::offer_copies() { copied = estimate_; }

// ---- the choice ----------------------------------------------------------------------------------------------------

namespace {

double share_of(std::size_t matches, std::size_t rows) {
  return std::clamp(static_cast<double>(matches) / static_cast<double>(std::max<std::size_t>(rows, 1)), 1e-9, 1.0);
}

// Rows whose estimates are good enough for a closer look: so many times k, and some at the beginning.
double looked_at(std::size_t k, double matches) { return std::min(matches, 12.0 * static_cast<double>(k) + 64.0); }

double cost_of_refining(const Ground& ground, std::size_t k, double matches) {
  return std::isfinite(ground.gathered) ? (kRefined + ground.gathered) * looked_at(k, matches) : 0.0;
}

// Of the rows that are scanned as many more have such estimates as there are more of them than matches; only then are
// they dropped.
double cost_of_sifting(std::size_t k, double scanned, double matches) {
  const double hits = std::min(scanned, looked_at(k, matches) * scanned / std::max(1.0, matches));
  return kSifted * std::max(0.0, hits - looked_at(k, matches));
}

double cost_of_scan(const Ground& ground, std::size_t k, const Matches& matches) {
  const double wanted = at_least_one(share_of(matches.count, ground.rows));  // share of the blocks
  double blocks = static_cast<double>(ground.rows) / kBlockRows * wanted, runs = blocks * (1.0 - wanted);
  if (matches.blocks != 0) {
    blocks = static_cast<double>(matches.blocks);
    runs = static_cast<double>(matches.runs);
  }
  return kQuery + blocks * ground.block + runs * ground.run +
         cost_of_sifting(k, blocks * kBlockRows, static_cast<double>(matches.count)) +
         cost_of_refining(ground, k, static_cast<double>(matches.count));
}

// Lists in order of their centroids, as order_lists of ivf_filtered.cpp has them.
double cost_of_order(double all, double probed) {
  const double wanted = std::min(all, 2.0 * probed);
  if (4.0 * wanted < all) return all * kCentroid + wanted * kOrdered;
  return all * kScored + (probed < all ? wanted * kPlaced : 0.0);
}

// Rows of a list are scored one by one or scanned, whichever is cheaper. Those that count are found by looking up all
// rows of the lists, or by sorting matches into lists.
double cost_of_lists(const Ground& ground, std::size_t k, std::size_t matches) {
  const auto all = static_cast<double>(ground.lists);
  const double probed = std::min(all, static_cast<double>(widened(ground.effort, matches, ground.rows)));
  const double rows = probed / all * static_cast<double>(ground.rows), met = rows * share_of(matches, ground.rows);
  const double scanned =
      probed * ground.list + (rows / kBlockRows + probed / 2) * ground.block + cost_of_refining(ground, k, met);
  return kQuery + cost_of_order(all, probed) +
         std::min(rows * ground.number, static_cast<double>(matches) * Ground::kSorted) +
         std::min(probed * kShortList + met * ground.gathered, scanned);
}

double cost_of_copies(const Ground& ground, std::size_t k, std::size_t matches) {
  const auto rows = static_cast<double>(matches);
  return kQuery + (rows / kBlockRows + 1.0) * ground.copied + cost_of_refining(ground, k, rows);
}

double cost_of_walk(const Ground& ground, std::size_t k, std::size_t matches) {
  return kQuery + ground.visit * static_cast<double>(widened(std::max(ground.effort, k), matches, ground.rows));
}

}  // namespace

std::size_t widened(std::size_t effort, std::size_t matches, std::size_t rows) {
  const double wanted = std::ceil(static_cast<double>(effort) / share_of(matches, rows));
  return static_cast<std::size_t>(std::min(wanted, static_cast<double>(std::max(rows, effort))));
}

namespace {

// Up to a number of few digits: queries whose filters are about as strict are answered together.
std::size_t rounded(std::size_t effort) {
  const std::size_t step = std::max<std::size_t>(1, std::bit_ceil(effort) / 16);
  return (effort + step - 1) / step * step;
}

std::atomic<int> forced_way{-1};

}  // namespace

void force_way(int way) { forced_way.store(way, std::memory_order_relaxed); }

Plan plan_for(const Ground& ground, std::size_t k, const Matches& matches) {
  Plan plan;
  const std::size_t count = matches.count;
  plan.costs.fill(kNever);
  const auto cost = [&](Way way) -> double& { return plan.costs[static_cast<std::size_t>(way)]; };
  if (std::isfinite(ground.gathered)) cost(Way::kGather) = kGatherQuery + static_cast<double>(count) * ground.gathered;
  if (ground.lists != 0) {
    cost(Way::kLists) = cost_of_lists(ground, k, count);
  } else if (std::isfinite(ground.block)) {
    cost(Way::kScan) = cost_of_scan(ground, k, matches);
  }
  if (std::isfinite(ground.visit)) cost(Way::kWalk) = cost_of_walk(ground, k, count);
  if (matches.copies && std::isfinite(ground.copied)) cost(Way::kCopies) = cost_of_copies(ground, k, count);
  const auto least = std::min_element(plan.costs.begin(), plan.costs.end());
  plan.way = static_cast<Way>(least - plan.costs.begin());
  const int forced = forced_way.load(std::memory_order_relaxed);
  if (forced >= 0 && std::isfinite(plan.costs[static_cast<std::size_t>(forced)])) plan.way = static_cast<Way>(forced);
  if (plan.way == Way::kWalk) plan.effort = rounded(widened(std::max(ground.effort, k), count, ground.rows));
  return plan;
}

}  // namespace tessella
