// One search of an inverted file: what its queries share, and how lists are looked into. Whole lists are scanned by
// ivf_search.cpp, lists under bitmaps by ivf_filtered.cpp.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "common/buffer.h"
#include "common/parallel.h"
#include "index/filtered.h"
#include "index/ivf.h"
#include "index/row_filter.h"
#include "index/selection.h"

namespace tessella {

constexpr std::size_t kNear = 3;           // lists that make a threshold about as sharp as it gets
constexpr std::size_t kMostQueries = 512;  // of a task: their tables should stay in the cache
constexpr std::size_t kRangeRows = 4096;   // rows between two looks at the threshold

struct Probe {
  std::uint32_t list;
  float add;  // similarity of the query and the list's centroid
};

struct Visit {
  Probe probe;
  std::uint32_t query;  // of the task
};

// Room for one task. Hits are left unset: nobody reads beyond their count.
struct WorkSpace {
  AlignedBuffer tables;
  std::array<std::unique_ptr<RabitqHit[]>, kRabitqQueries> hits;
  std::vector<std::uint32_t> admitted;  // row numbers of lists, one list after another
  std::vector<float> similarities;      // of all centroids
};

// Visits of one list together, the queries in order.
std::vector<Visit> list_by_list(const std::vector<Visit>& visits, std::size_t lists);

class IvfScan {
 public:
  // `request` has prepared queries.
  IvfScan(const IvfIndex& index, const IvfRequest& request)
      : ix_(index),
        config_(index.config()),
        kernels_(index.rows_.kernels()),
        request_(request.search),
        nprobe_(std::min(request.nprobe, index.lists_.count())),
        scorer_(index.rows_, request.search.epsilon),
        coarse_(index.centroids_, request.search.epsilon),
        list_ids_(numbered(index.lists_.count())) {}

  CandidateLists run();
  // The same under bitmaps. A list is left empty where every row that counts had better be looked at.
  CandidateLists run_admitted(const Ground& ground);

  std::vector<Candidate> within(std::size_t q, float least) const;

  Ground ground() const {
    Ground ground(scorer_, ix_.ids_.size());
    ground.offer_lists(ix_.lists_.count(), nprobe_, ix_.scans_codes());
    if (ix_.config().codecs.front().kind == Codec::Kind::kB1 && scorer_.fine() != nullptr) ground.offer_copies();
    return ground;
  }
  const RowScorer& scorer() const { return scorer_; }

 private:
  static IdMap numbered(std::size_t count) {
    IdMap map;
    map.append_next(count);
    return map;
  }
  const float* query(std::size_t q) const { return request_.queries + q * config_.dim; }
  bool ends_raw() const { return config_.codecs.back().kind == Codec::Kind::kRaw; }
  std::size_t keep() const {
    return ends_raw() && ix_.rows_.column("codes") != nullptr ? kRawFactor * request_.k : request_.k;
  }
  // The centroids' codes and the rows' are of one rotation about one centre: one set of tables serves both.
  std::size_t table_bytes() const { return coarse_.table_bytes() + scorer_.pq_table_bytes(); }
  QueryTables tables_for(const float* query, std::uint8_t* memory) const {
    QueryTables tables = coarse_.tables_for(query, memory);
    if (scorer_.pq_table_bytes() != 0) scorer_.add_pq_tables(tables, memory + coarse_.table_bytes());
    return tables;
  }
  WorkSpace work_space(std::size_t queries) const {
    WorkSpace space{AlignedBuffer(queries * table_bytes()), {}, {}, {}};
    for (std::size_t i = 0; i < std::min(queries, kRabitqQueries); ++i) {
      space.hits[i] = std::make_unique_for_overwrite<RabitqHit[]>(kRangeRows);
    }
    return space;
  }

  void search_group(std::size_t q0, std::size_t nq, WorkSpace& space, std::vector<Candidate>* out);
  void nearest_lists(const QueryTables* tables, std::size_t nq, std::size_t wanted, WorkSpace& space,
                     std::vector<Probe>* probes) const;
  void scan_list(const Visit* visits, std::size_t count, const QueryTables* tables, WorkSpace& space,
                 Selection* found) const;
  void scan_blocks(const Visit* visits, std::size_t count, const QueryTables* tables, std::size_t first,
                   const float* thresholds, RabitqHit* const* hits, std::size_t* counts) const;
  RabitqQuery for_list(const QueryTables& tables, const Probe& probe) const;
  void fetch(const Probe& probe) const;
  std::vector<Candidate> finished(std::size_t q, const std::vector<Ranked>& list);

  // Of ivf_filtered.cpp.
  class Stop;
  struct Sorted;
  struct Company;
  struct LookedUp {
    Probe probe;
    std::size_t first, count;  // of its rows that count, in a work space
  };
  std::vector<Company> companies() const;
  std::size_t planned(const RowBitmap& allowed) const { return widened(nprobe_, allowed.count, ix_.ids_.size()); }
  bool sorts(const RowBitmap& allowed, std::size_t queries) const;
  const AdmittedLists& sorted_lists(const Company& company) const;
  AdmittedLists admitted_lists(const RowBitmap& allowed) const;
  enum class Order { kNearest, kAny };
  Order order_of(const RowBitmap& allowed) const;
  void order_lists(const QueryTables* tables, std::size_t nq, std::size_t wanted, Order order, WorkSpace& space,
                   std::vector<Probe>* probes) const;
  std::vector<Probe> chosen_lists(const QueryTables& tables, const std::vector<Probe>& nearest,
                                  const AdmittedLists& admitted, Stop& stop, WorkSpace& space) const;
  void search_company(const Company& company, const Ground& ground, CandidateLists& out);
  void look_into(const Visit* visits, std::size_t count, const AdmittedLists& admitted, const Ground& ground,
                 const QueryTables* tables, WorkSpace& space, Selection* found) const;
  std::vector<Candidate> search_admitted(std::size_t q, const Ground& ground);
  std::vector<LookedUp> looked_up(const QueryTables& tables, const RowBitmap& allowed, Stop& stop,
                                  WorkSpace& space) const;
  std::size_t look_up(std::uint32_t list, const RowBitmap& allowed, WorkSpace& space) const;
  void fetch_numbers(const Probe& probe) const;

  const IvfIndex& ix_;
  const RowConfig& config_;
  const Kernels& kernels_;
  const SearchRequest& request_;
  std::size_t nprobe_;
  RowScorer scorer_, coarse_;
  IdMap list_ids_;
  std::atomic<std::uint64_t> scanned_{0}, refined_{0}, rescored_{0}, probed_{0};
};

}  // namespace tessella
