#include "index/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tessella {

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// Nanoseconds.
constexpr double kGatherRow = 12.0, kGatherByte = 0.06;  // a row from anywhere, and each byte of its code
constexpr double kScanByte = 0.04;                       // a byte of a block of estimates
constexpr double kLookUp = 0.6;                          // a piece of an 8-bit product code
constexpr double kList = 150.0;                          // a list's first bytes arrive
constexpr double kCentroid = 3.0;                        // one centroid, most of them by estimate alone
constexpr double kQuery = 3000.0;                        // tables of a query
constexpr double kVisit = 300.0, kVisitByte = 0.06;      // a step of a walk, and each byte of the record
constexpr double kRefined = 12.0;                        // rows refined by a scan, for each of the k wanted

double at_least_one(double share) { return 1.0 - std::pow(1.0 - share, static_cast<double>(kBlockRows)); }

}  // namespace

Ground::Ground(const RowScorer& scorer, std::size_t rows_there) : rows(rows_there) {
  gathered = block = list = centroid = visit = estimate_ = kNever;
  const RowConfig& config = scorer.rows().config();
  const std::size_t padded = scorer.rows().padded();
  if (const Codec* fine = scorer.fine()) {
    const bool raw = fine->kind == Codec::Kind::kRaw;
    const std::size_t bytes = raw ? config.dim * scalar_bytes(fine->type) : padded * fine->bits / 8;
    gathered = kGatherRow + kGatherByte * static_cast<double>(bytes);
  }
  if (const Codec* pq = scorer.rows().find(Codec::Kind::kPq)) {
    const auto pieces = static_cast<double>(pq->pieces);
    estimate_ = pq->bits == 8 ? kBlockRows * pieces * kLookUp : kBlockRows * pieces / 2 * kScanByte;
  } else {
    estimate_ = kScanByte * static_cast<double>(kBlockRows * (padded / 8 + 4));
  }
}

void Ground::offer_scan() { block = estimate_; }

void Ground::offer_lists(std::size_t count, std::size_t nprobe, bool scans_codes) {
  lists = count;
  effort = nprobe;
  list = kList;
  centroid = kCentroid;
  block = scans_codes ? estimate_ : kBlockRows;  // without codes, its rows' numbers are looked up in the bitmap
}

void Ground::offer_walk(std::size_t ef, std::size_t degree, bool coded) {
  effort = ef;
  const auto edges = static_cast<double>(degree);
  visit = kVisit + (coded ? edges / kBlockRows * estimate_ + gathered : edges * gathered);
}

// ---- the choice ----------------------------------------------------------------------------------------------------

namespace {

double share_of(std::size_t matches, std::size_t rows) {
  return std::clamp(static_cast<double>(matches) / static_cast<double>(std::max<std::size_t>(rows, 1)), 1e-9, 1.0);
}

double cost_of_refining(const Ground& ground, std::size_t k, double matches) {
  if (!std::isfinite(ground.gathered)) return 0.0;
  return ground.gathered * std::min(matches, kRefined * static_cast<double>(k) + 64.0);
}

double cost_of_scan(const Ground& ground, std::size_t k, std::size_t matches) {
  const double blocks = static_cast<double>(ground.rows) / kBlockRows;
  const double refined = cost_of_refining(ground, k, static_cast<double>(matches));
  return kQuery + blocks * at_least_one(share_of(matches, ground.rows)) * ground.block + refined;
}

double cost_of_lists(const Ground& ground, std::size_t k, std::size_t matches) {
  const double probed = static_cast<double>(widened_lists(ground.effort, matches, ground.rows));
  const double lists = static_cast<double>(ground.lists);
  const double share = std::min(1.0, probed / lists);
  const double blocks = share * (static_cast<double>(ground.rows) / kBlockRows + lists);
  const double refined = cost_of_refining(ground, k, share * static_cast<double>(matches));
  return kQuery + lists * ground.centroid + share * lists * ground.list + blocks * ground.block + refined;
}

double cost_of_walk(const Ground& ground, std::size_t k, std::size_t matches) {
  return kQuery + ground.visit * static_cast<double>(widened_walk(std::max(ground.effort, k), matches, ground.rows));
}

}  // namespace

std::size_t widened_lists(std::size_t nprobe, std::size_t matches, std::size_t rows) {
  const double wanted = static_cast<double>(nprobe) / std::sqrt(share_of(matches, rows));
  return static_cast<std::size_t>(std::min(std::ceil(wanted), static_cast<double>(rows) + 1.0));
}

std::size_t widened_walk(std::size_t ef, std::size_t matches, std::size_t rows) {
  const double wanted = static_cast<double>(ef) / share_of(matches, rows);
  return static_cast<std::size_t>(std::min(std::ceil(wanted), static_cast<double>(rows) + 1.0));
}

Plan plan_for(const Ground& ground, std::size_t k, std::size_t matches) {
  Plan plan;
  plan.costs.fill(kNever);
  const auto cost = [&](Way way) -> double& { return plan.costs[static_cast<std::size_t>(way)]; };
  if (std::isfinite(ground.gathered)) cost(Way::kGather) = kQuery + static_cast<double>(matches) * ground.gathered;
  if (ground.lists != 0) {
    cost(Way::kLists) = cost_of_lists(ground, k, matches);
  } else if (std::isfinite(ground.block)) {
    cost(Way::kScan) = cost_of_scan(ground, k, matches);
  }
  if (std::isfinite(ground.visit)) cost(Way::kWalk) = cost_of_walk(ground, k, matches);
  const auto least = std::min_element(plan.costs.begin(), plan.costs.end());
  plan.way = static_cast<Way>(least - plan.costs.begin());
  if (plan.way == Way::kLists) plan.effort = widened_lists(ground.effort, matches, ground.rows);
  if (plan.way == Way::kWalk) plan.effort = widened_walk(std::max(ground.effort, k), matches, ground.rows);
  return plan;
}

}  // namespace tessella
