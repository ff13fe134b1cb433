// The exact scan, from rows to sorted lists. Kernels: exact/direct.cu, product.cu, tensor.cu find survivors,
// merge.cu merges them; prepare.cu and score.cu stand at the two ends.
//
//   for each chunk of rows, small first:  [norms]  for each group of queries:  scan -> merge into the running lists
//
// Each chunk is pruned by the k-th best of all chunks before it.
#include "cuda/exact.h"

#include <string>

#include "cuda/exact/kernels.h"
#include "cuda/exact/plan.h"
#include "cuda/runtime.h"
#include "tessella/errors.h"

namespace tessella::cuda {

void score_rows(const ExactScore& job);  // exact/score.cu

namespace {

constexpr std::size_t kMostRows = (std::size_t{1} << 32) - (std::size_t{1} << 12);
constexpr std::size_t kMostDimensions = std::size_t{1} << 24;

void check_sizes(const ExactTopK& job) {
  if (job.n > kMostRows || job.d > kMostDimensions) {
    throw Error(ErrorKind::kInvalidArgument,
                "exact_topk: expected fewer than 2**32 - 2**12 rows of at most 2**24 "
                "dimensions; got shape (" +
                    std::to_string(job.n) + ", " + std::to_string(job.d) + ")");
  }
}

// The part of the job that one launch sees: rows of a chunk, queries of a group.
struct Window {
  std::size_t first_row;
  std::uint32_t rows;
  std::size_t first_query;
  std::size_t queries;
};

const void* rows_from(const ExactTopK& job, std::size_t row) {
  return static_cast<const char*>(job.rows) + row * job.d * scalar_bytes(job.type);
}

PreparedQueries from_query(PreparedQueries prepared, std::size_t query, std::size_t d) {
  if (prepared.scale != nullptr) prepared.scale += query, prepared.shift += query, prepared.start += query;
  if (prepared.high != nullptr) {
    prepared.high += query * d, prepared.low += query * d;
    prepared.inexact += query / static_cast<std::size_t>(kTensorShape.queries);
  }
  return prepared;
}

RowMask from_window(RowMask mask, const Window& window, std::size_t tile) {
  if (mask.words == nullptr) return mask;
  mask.words += window.first_query * mask.stride;
  mask.joined += window.first_query / tile * mask.tile_stride;
  mask.first_row = window.first_row;
  return mask;
}

void scan_window(const ExactTopK& job, const RowMask& mask, Route route, const Plan& plan, const Pieces& pieces,
                 const Window& window) {
  const auto tile = static_cast<std::size_t>(shape_of(route).rows);
  const std::size_t tiles = ceil_div(window.rows, tile), tiles_each = ceil_div(tiles, plan.segments);
  const auto segments = static_cast<std::uint32_t>(ceil_div(tiles, tiles_each));
  Candidate* best = job.best + window.first_query * job.k;
  Scan scan{};
  scan.lists = {best,
                job.ids,
                job.first_row + static_cast<std::int64_t>(window.first_row),
                pieces.survivors,
                pieces.counts,
                static_cast<std::uint32_t>(window.queries),
                static_cast<std::uint32_t>(job.k),
                segments,
                plan.capacity};
  scan.queries = job.queries + window.first_query * job.d;
  scan.prepared = from_query(pieces.prepared, window.first_query, job.d);
  scan.mask = from_window(mask, window, static_cast<std::size_t>(shape_of(route).queries));
  scan.rows = rows_from(job, window.first_row);
  scan.half_norms = job.metric == Metric::kL2 ? pieces.half_norms : nullptr;
  scan.n = window.rows;
  scan.d = static_cast<std::uint32_t>(job.d);
  scan.segment_rows = static_cast<std::uint32_t>(tiles_each * tile);
  switch (route) {
    case Route::kDirect: scan_direct(scan, job.type, job.metric, segments, job.stream); break;
    case Route::kProduct: scan_product(scan, job.type, segments, job.stream); break;
    case Route::kTensor: scan_tensor(scan, job.type, segments, job.stream); break;
  }
  merge_survivors(scan.lists, best, job.stream);
}

Plan plan_for(Route route, std::size_t nq, std::size_t n, std::size_t k) {
  return make_plan(shape_of(route), nq, n, k, multiprocessors());
}

// Bitmaps (nq, words), one for each query, are joined by tiles; one for all stands for itself.
RowMask row_mask(const AllowedRows& allowed, std::size_t nq, std::size_t tile, std::uint64_t* joined, void* stream) {
  if (allowed.words == nullptr) return {};
  if (!allowed.each) return {allowed.words, 0, allowed.words, 0, 0};
  join_masks(allowed.words, nq, allowed.count, tile, joined, stream);
  return {allowed.words, allowed.count, joined, allowed.count, 0};
}

std::size_t joined_words(const AllowedRows& allowed, Route route, std::size_t nq) {
  const std::size_t tiles = ceil_div(nq, static_cast<std::size_t>(shape_of(route).queries));
  return allowed.each ? tiles * allowed.count : 0;
}

void topk_of(const ExactTopK& job, const AllowedRows& allowed) {
  if (job.nq == 0 || job.n == 0) return;
  check_sizes(job);
  const Route route = route_for(job);
  const auto d = static_cast<std::uint32_t>(job.d);
  const Plan plan = plan_for(route, job.nq, job.n, job.k);
  Carver scratch(job.scratch);
  const Pieces pieces = carve(scratch, plan, route, job.nq, job.n, job.d);
  auto* joined = scratch.take<std::uint64_t>(joined_words(allowed, route, job.nq));
  const RowMask mask = row_mask(allowed, job.nq, static_cast<std::size_t>(shape_of(route).queries), joined, job.stream);
  if (route != Route::kDirect) {
    const ScalarType become = route == Route::kTensor ? job.type : ScalarType::kF32;
    prepare_queries(job.queries, job.nq, d, become, job.metric, pieces.prepared, job.stream);
  }
  for (std::size_t row = 0; row < job.n;) {
    const std::size_t seen = static_cast<std::size_t>(job.first_row) + row;
    const std::uint32_t rows = next_chunk(seen, job.n - row, job.k, shape_of(route));
    if (route != Route::kDirect && job.metric == Metric::kL2) {
      row_half_norms(rows_from(job, row), job.type, rows, d, pieces.half_norms, job.stream);
    }
    for (std::size_t query = 0; query < job.nq; query += plan.group) {
      scan_window(job, mask, route, plan, pieces, {row, rows, query, std::min(plan.group, job.nq - query)});
    }
    row += rows;
  }
}

// The route depends on the type, which is not told: the largest of the three.
std::size_t scratch_of(std::size_t nq, std::size_t n, std::size_t d, std::size_t k, const AllowedRows& allowed) {
  if (nq == 0 || n == 0) return 0;
  std::size_t most = 0;
  for (const Route route : {Route::kDirect, Route::kProduct, Route::kTensor}) {
    if (route == Route::kDirect && nq > kDirectQueriesF32) continue;
    Carver scratch(nullptr);
    carve(scratch, plan_for(route, nq, n, k), route, nq, n, d);
    scratch.take<std::uint64_t>(joined_words(allowed, route, nq));
    most = std::max(most, scratch.bytes());
  }
  return most;
}

}  // namespace

void exact_topk(const ExactTopK& job) { topk_of(job, {}); }

std::size_t exact_topk_scratch(std::size_t nq, std::size_t n, std::size_t d, std::size_t k) {
  return scratch_of(nq, n, d, k, {});
}

void exact_score(const ExactScore& job) {
  if (job.count > 0) score_rows(job);
}

std::size_t exact_search_scratch(std::size_t nq, std::size_t n, std::size_t d, std::size_t k, bool masks) {
  const std::size_t longer = k + kSpareCandidates;
  return ceil_div(nq * longer * sizeof(Candidate), 64) * 64 +
         scratch_of(nq, n, d, longer, {nullptr, ceil_div(n, 64), masks});
}

void exact_search(const ExactSearch& job) {
  if (job.nq == 0) return;
  const std::size_t longer = job.k + kSpareCandidates;
  Carver scratch(job.scratch);
  auto* lists = scratch.take<Candidate>(job.nq * longer);
  clear_lists(lists, job.nq * longer, job.stream);
  topk_of({job.queries, job.nq, job.rows, job.type, job.n, job.d, job.metric, 0, job.ids, longer, lists,
           static_cast<char*>(job.scratch) + scratch.bytes(), job.stream},
          job.allowed);
  finish_lists({job.queries, job.rows, job.type, static_cast<std::uint32_t>(job.d), job.metric, job.ids, lists,
                static_cast<std::uint32_t>(job.nq), static_cast<std::uint32_t>(longer),
                static_cast<std::uint32_t>(job.k), job.scores, job.out_ids},
               job.stream);
}

}  // namespace tessella::cuda
