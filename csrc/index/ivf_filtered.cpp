// Searching inverted lists under bitmaps: lists are looked into, nearest first, until there were as many as without a
// filter and, in them, as many rows that count as that many lists have on average. Where these are rare so near, the
// search goes on; once it has cost what it costs to look at every row that counts, it is given up for that.
//
// Queries under one bitmap share the sorting of its rows into lists, and passes over lists. A query by itself whose
// bitmap admits too many for that looks up the row numbers of the lists it comes to. Either way it looks into the same
// lists and scores the same rows.
#include <algorithm>
#include <map>
#include <mutex>

#include "common/parallel.h"
#include "index/ivf_scan.h"

namespace tessella {

namespace {

constexpr std::size_t kSpareLists = 2;  // times those that a filter is planned to need are put in order
constexpr std::size_t kManyLists = 4;   // a part of all lists; more than that are ordered by scoring every centroid
constexpr std::size_t kListsAhead = 4;  // whose row numbers are asked for
constexpr std::size_t kNumbersAhead = 4096;
constexpr double kSlack = 1.0 + 1e-6;  // costs of many lists are added up in float64

std::size_t blocks_of(std::size_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }

// Whether rows of a list are scored one by one rather than scanned.
bool one_by_one(const Ground& ground, std::size_t size, std::size_t count) {
  const double scanned = ground.list + ground.block * static_cast<double>(blocks_of(size));
  return ground.gathered * static_cast<double>(count) < scanned;
}

}  // namespace

// When a query has seen enough, and when it has cost too much.
class IvfScan::Stop {
 public:
  Stop(const IvfScan& scan, const Ground& ground, const RowBitmap& allowed)
      : ground_(ground),
        lists_(scan.order_of(allowed) == Order::kAny ? scan.ix_.lists_.count() : scan.nprobe_),
        least_(std::max(scan.nprobe_ * scan.ix_.lists_.entries() / scan.ix_.lists_.count(),
                        scan.ix_.homes() * scan.request_.k)),
        limit_(kSlack * ground.gathered * static_cast<double>(allowed.count)),
        done_(scan.ix_.lists_.count()) {}

  bool enough() const { return probed_ >= lists_ && met_ >= least_; }
  bool too_much() const { return spent_ > limit_; }
  bool over() const { return enough() || too_much(); }
  // False: this list was looked into before.
  bool visit(std::uint32_t list) {
    if (done_[list]) return false;
    return done_[list] = true;
  }
  void met(std::size_t size, std::size_t count) {
    ++probed_;
    met_ += count;
    scanned_ += size;
    if (count == 0) return;
    const auto rows = static_cast<double>(count), blocks = static_cast<double>(blocks_of(size));
    spent_ += one_by_one(ground_, size, count) ? ground_.gathered * rows : ground_.list + ground_.block * blocks;
  }
  std::size_t probed() const { return probed_; }
  std::size_t scanned() const { return scanned_; }

 private:
  const Ground& ground_;
  std::size_t lists_, least_;
  double limit_, spent_ = 0.0;
  std::vector<bool> done_;
  std::size_t probed_ = 0, met_ = 0, scanned_ = 0;
};

// The rows of a bitmap sorted into lists, by the first company that needs them so.
struct IvfScan::Sorted {
  std::once_flag once;
  std::shared_ptr<const AdmittedLists> lists;
};

// Queries under one bitmap.
struct IvfScan::Company {
  std::vector<std::size_t> queries;
  std::shared_ptr<Sorted> sorted;  // nullptr: each looks up the rows of the lists that it comes to
};

CandidateLists IvfScan::run_admitted(const Ground& ground) {
  CandidateLists out(request_.nq);
  const std::vector<Company> all = companies();
  parallel_for(all.size(), request_.threads, [&](std::size_t c) {
    if (all[c].sorted) return search_company(all[c], ground, out);
    for (const std::size_t q : all[c].queries) out[q] = search_admitted(q, ground);
  });
  if (request_.counts != nullptr) *request_.counts = {scanned_, refined_, rescored_, probed_};
  return out;
}

// Rows are sorted once for all queries under a bitmap; by itself each would look up the rows of as many lists as it is
// planned to need. A filter keeps what was sorted, so its queries are counted together with those that came before:
// once looking up has cost as much as sorting, its rows are sorted.
bool IvfScan::sorts(const RowBitmap& allowed, std::size_t queries) const {
  if (allowed.filter != nullptr && allowed.filter->lists(request_.state)) return true;
  const double share = static_cast<double>(planned(allowed)) / static_cast<double>(ix_.lists_.count());
  const double alone = Ground::kNumber * static_cast<double>(ix_.lists_.entries()) * std::min(share, 1.0);
  const double sorting = Ground::kSorted * static_cast<double>(ix_.homes() * allowed.count);
  const double spent = alone * static_cast<double>(queries);
  return sorting < (allowed.filter == nullptr ? spent : allowed.filter->spend(request_.state, spent));
}

std::vector<IvfScan::Company> IvfScan::companies() const {
  std::map<const std::uint64_t*, std::vector<std::size_t>> under;
  for (std::size_t q = 0; q < request_.nq; ++q) under[request_.bitmap(q).words.data()].push_back(q);
  std::vector<Company> all;
  for (const auto& [words, queries] : under) {
    const RowBitmap allowed = request_.bitmap(queries.front());
    const auto sorted = sorts(allowed, queries.size()) ? std::make_shared<Sorted>() : nullptr;
    const std::size_t each = sorted ? std::clamp(queries.size() / request_.threads, std::size_t{1}, kMostQueries) : 1;
    for (std::size_t first = 0; first < queries.size(); first += each) {
      const auto from = queries.begin() + static_cast<std::ptrdiff_t>(first);
      const auto until = queries.begin() + static_cast<std::ptrdiff_t>(std::min(first + each, queries.size()));
      all.push_back({{from, until}, sorted});
    }
  }
  return all;
}

const AdmittedLists& IvfScan::sorted_lists(const Company& company) const {
  Sorted& sorted = *company.sorted;
  std::call_once(sorted.once, [&] {
    const RowBitmap allowed = request_.bitmap(company.queries.front());
    const auto sort = [&] { return admitted_lists(allowed); };
    sorted.lists = allowed.filter != nullptr ? allowed.filter->lists(request_.state, sort)
                                             : std::make_shared<const AdmittedLists>(sort());
  });
  return *sorted.lists;
}

AdmittedLists IvfScan::admitted_lists(const RowBitmap& allowed) const {
  AdmittedLists sorted;
  sorted.begins.assign(ix_.lists_.count() + 2, 0);  // one ahead: filling a list moves its begin to its end
  const std::size_t rows = ix_.ids_.size();
  for (std::size_t h = 0; h < ix_.homes(); ++h) {
    const std::uint32_t* homes = ix_.homes_[h].data();
    allowed.for_rows(0, rows, [&](std::size_t row) {
      if (homes[row] != IvfIndex::kNone) ++sorted.begins[homes[row] + 2];
    });
  }
  for (std::size_t l = 2; l < sorted.begins.size(); ++l) sorted.begins[l] += sorted.begins[l - 1];
  sorted.rows.resize(sorted.begins.back());
  for (std::size_t h = 0; h < ix_.homes(); ++h) {
    const std::uint32_t* homes = ix_.homes_[h].data();
    allowed.for_rows(0, rows, [&](std::size_t row) {
      if (homes[row] != IvfIndex::kNone) {
        sorted.rows[sorted.begins[homes[row] + 1]++] = static_cast<std::uint32_t>(row);
      }
    });
  }
  sorted.begins.pop_back();
  return sorted;
}

// A query that is planned to need every list needs no order, but for those that make its threshold sharp.
IvfScan::Order IvfScan::order_of(const RowBitmap& allowed) const {
  return planned(allowed) < ix_.lists_.count() ? Order::kNearest : Order::kAny;
}

// The `wanted` nearest lists, nearest first; or all of them, of which the first kNear are the nearest.
void IvfScan::order_lists(const QueryTables* tables, std::size_t nq, std::size_t wanted, Order order, WorkSpace& space,
                          std::vector<Probe>* probes) const {
  const std::size_t count = ix_.lists_.count();
  if (wanted * kManyLists < count) return nearest_lists(tables, nq, wanted, space, probes);
  space.similarities.resize(count);
  const auto nearer = [](const Probe& a, const Probe& b) { return a.add != b.add ? a.add > b.add : a.list < b.list; };
  for (std::size_t i = 0; i < nq; ++i) {
    for (std::size_t first = 0; first < count; first += kChunkRows) {
      const std::size_t some = std::min(kChunkRows, count - first);
      coarse_.score_run(tables[i], first, some, space.similarities.data() + first);
    }
    probes[i].resize(count);
    for (std::uint32_t l = 0; l < count; ++l) probes[i][l] = {l, space.similarities[l]};
    const std::size_t sorted = order == Order::kAny ? std::min(kNear, count) : wanted;
    const auto until = probes[i].begin() + static_cast<std::ptrdiff_t>(sorted);
    if (sorted < count) std::nth_element(probes[i].begin(), until, probes[i].end(), nearer);
    std::sort(probes[i].begin(), until, nearer);
    probes[i].resize(wanted);
  }
}

// ---- queries that share a bitmap -----------------------------------------------------------------------------------

// Of lists, nearest first, those to look into; `stop` is over where that was enough, or too much.
std::vector<Probe> IvfScan::chosen_lists(const QueryTables& tables, const std::vector<Probe>& nearest,
                                         const AdmittedLists& admitted, Stop& stop, WorkSpace& space) const {
  std::vector<Probe> chosen;
  const auto take = [&](const std::vector<Probe>& probes) {
    for (const Probe& probe : probes) {
      if (stop.over()) return;
      if (!stop.visit(probe.list)) continue;
      const std::size_t count = admitted.count(probe.list);
      stop.met(ix_.lists_[probe.list].size, count);
      if (count != 0) chosen.push_back(probe);
    }
  };
  take(nearest);
  if (!stop.over() && nearest.size() < ix_.lists_.count()) {
    std::vector<Probe> all;
    order_lists(&tables, 1, ix_.lists_.count(), Order::kNearest, space, &all);
    take(all);
  }
  return chosen;
}

void IvfScan::search_company(const Company& company, const Ground& ground, CandidateLists& out) {
  const std::size_t nq = company.queries.size();
  const RowBitmap allowed = request_.bitmap(company.queries.front());
  const AdmittedLists& admitted = sorted_lists(company);
  WorkSpace space = work_space(nq);
  std::vector<QueryTables> tables(nq);
  for (std::size_t i = 0; i < nq; ++i) {
    tables[i] = tables_for(query(company.queries[i]), space.tables.data() + i * table_bytes());
  }
  std::vector<std::vector<Probe>> nearest(nq);
  order_lists(tables.data(), nq, std::min(ix_.lists_.count(), kSpareLists * planned(allowed)), order_of(allowed), space,
              nearest.data());
  std::vector<Selection> found;
  found.reserve(nq);
  std::vector<Visit> visits;
  std::vector<bool> given_up(nq);
  for (std::size_t i = 0; i < nq; ++i) {
    found.emplace_back(scorer_, tables[i], keep(), ix_.ids_, ix_.spills(), allowed);
    Stop stop(*this, ground, allowed);
    const std::vector<Probe> chosen = chosen_lists(tables[i], nearest[i], admitted, stop, space);
    scanned_.fetch_add(stop.scanned(), std::memory_order_relaxed);
    probed_.fetch_add(stop.probed(), std::memory_order_relaxed);
    given_up[i] = stop.too_much() && !stop.enough();
    for (std::size_t p = 0; p < chosen.size() && !given_up[i]; ++p) {
      const Visit visit{chosen[p], static_cast<std::uint32_t>(i)};
      if (p >= kNear) {
        visits.push_back(visit);
        continue;
      }
      if (p + 1 < chosen.size()) fetch(chosen[p + 1]);
      look_into(&visit, 1, admitted, ground, tables.data(), space, found.data());
    }
  }
  visits = list_by_list(visits, ix_.lists_.count());
  for (std::size_t v = 0, count; v < visits.size(); v += count) {
    count = 1;
    while (count < kRabitqQueries && v + count < visits.size() &&
           visits[v + count].probe.list == visits[v].probe.list) {
      ++count;
    }
    if (v + count < visits.size()) fetch(visits[v + count].probe);
    look_into(visits.data() + v, count, admitted, ground, tables.data(), space, found.data());
  }
  for (std::size_t i = 0; i < nq; ++i) {
    if (given_up[i]) continue;
    out[company.queries[i]] = finished(company.queries[i], found[i].finish());
    refined_.fetch_add(found[i].refined(), std::memory_order_relaxed);
  }
}

// One list, for up to kRabitqQueries queries that visit it.
void IvfScan::look_into(const Visit* visits, std::size_t count, const AdmittedLists& admitted, const Ground& ground,
                        const QueryTables* tables, WorkSpace& space, Selection* found) const {
  const std::uint32_t list = visits[0].probe.list;
  if (ix_.scans_codes() && !one_by_one(ground, ix_.lists_[list].size, admitted.count(list))) {
    return scan_list(visits, count, tables, space, found);
  }
  for (std::size_t v = 0; v < count; ++v) {
    found[visits[v].query].offer_rows(admitted.rows.data() + admitted.begins[list], admitted.count(list));
  }
}

// ---- a query by itself ---------------------------------------------------------------------------------------------

std::vector<Candidate> IvfScan::search_admitted(std::size_t q, const Ground& ground) {
  WorkSpace space = work_space(1);
  const QueryTables tables = tables_for(query(q), space.tables.data());
  const RowBitmap allowed = request_.bitmap(q);
  Stop stop(*this, ground, allowed);
  const std::vector<LookedUp> chosen = looked_up(tables, allowed, stop, space);
  scanned_.fetch_add(stop.scanned(), std::memory_order_relaxed);
  probed_.fetch_add(stop.probed(), std::memory_order_relaxed);
  if (stop.too_much() && !stop.enough()) return {};
  Selection found(scorer_, tables, keep(), ix_.ids_, ix_.spills(), allowed);
  for (std::size_t p = 0; p < chosen.size(); ++p) {
    const LookedUp& list = chosen[p];
    if (p + 1 < chosen.size()) fetch(chosen[p + 1].probe);
    if (ix_.scans_codes() && !one_by_one(ground, ix_.lists_[list.probe.list].size, list.count)) {
      const Visit visit{list.probe, 0};
      scan_list(&visit, 1, &tables, space, &found);
    } else {
      found.offer_rows(space.admitted.data() + list.first, list.count);
    }
  }
  const std::vector<Ranked> ranked = found.finish();
  refined_.fetch_add(found.refined(), std::memory_order_relaxed);
  return finished(q, ranked);
}

// The lists to look into: a row of two lists is seen in the one that comes first, so their order is that in which a
// company has them.
std::vector<IvfScan::LookedUp> IvfScan::looked_up(const QueryTables& tables, const RowBitmap& allowed, Stop& stop,
                                                  WorkSpace& space) const {
  const std::size_t count = ix_.lists_.count();
  std::vector<LookedUp> chosen;
  space.admitted.clear();
  for (std::size_t wanted = std::min(count, kSpareLists * planned(allowed));; wanted = count) {
    std::vector<Probe> probes;
    order_lists(&tables, 1, wanted, order_of(allowed), space, &probes);
    for (std::size_t p = 0; p < probes.size() && !stop.over(); ++p) {
      if (p + kListsAhead < probes.size()) fetch_numbers(probes[p + kListsAhead]);
      if (!stop.visit(probes[p].list)) continue;
      const std::size_t first = space.admitted.size(), met = look_up(probes[p].list, allowed, space);
      stop.met(ix_.lists_[probes[p].list].size, met);
      if (met != 0) chosen.push_back({probes[p], first, met});
    }
    if (stop.over() || wanted == count) break;
  }
  const auto far = chosen.begin() + static_cast<std::ptrdiff_t>(std::min(kNear, chosen.size()));
  std::sort(far, chosen.end(), [](const LookedUp& a, const LookedUp& b) { return a.probe.list < b.probe.list; });
  return chosen;
}

// Adds the rows of a list that count to space.admitted, and returns how many.
std::size_t IvfScan::look_up(std::uint32_t list, const RowBitmap& allowed, WorkSpace& space) const {
  auto& admitted = space.admitted;
  const std::size_t first = admitted.size();
  admitted.resize(first + ix_.lists_[list].size);
  std::size_t next = first;
  for (const std::uint32_t row : ix_.lists_[list].numbers()) {
    admitted[next] = row;
    next += allowed.admits(row) ? 1 : 0;
  }
  admitted.resize(next);
  return next - first;
}

void IvfScan::fetch_numbers(const Probe& probe) const {
  const auto numbers = ix_.lists_[probe.list].numbers();
  const std::size_t step = 64 / sizeof(std::uint32_t);
  for (std::size_t at = 0; at < std::min(numbers.size(), kNumbersAhead); at += step) {
    __builtin_prefetch(numbers.data() + at);
  }
}

}  // namespace tessella
