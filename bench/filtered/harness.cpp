// hnswlib and usearch under a bitmap, through their C++ faces (their Python ones call back, or take no filter), and
// rules of two servers over hnswlib's graph. Built by harness.py at bench time against headers that it finds.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <queue>
#include <string>
#include <thread>
#include <vector>

#ifdef WITH_HNSWLIB
#include "hnswlib/hnswlib.h"
#endif
#ifdef WITH_USEARCH
#include "usearch/index_dense.hpp"
#endif

namespace {

struct Bitmap {
  const std::uint64_t* words;
  std::size_t count, n;

  bool has(std::size_t row) const { return (words[row / 64] >> (row % 64) & 1) != 0; }
  template <typename Each>
  void for_rows(const Each& each) const {
    for (std::size_t w = 0; w < (n + 63) / 64; ++w) {
      for (std::uint64_t bits = words[w]; bits != 0; bits &= bits - 1) {
        each(w * 64 + static_cast<std::size_t>(__builtin_ctzll(bits)));
      }
    }
  }
};

using Hit = std::pair<float, std::uint32_t>;                                    // distance, row
using Nearest = std::priority_queue<Hit, std::vector<Hit>, std::greater<Hit>>;  // to be looked at
using Best = std::priority_queue<Hit>;                                          // the worst on top

void report(Best& best, std::size_t k, std::int64_t* ids) {
  while (best.size() > k) best.pop();
  std::fill_n(ids, k, std::int64_t{-1});
  for (std::size_t i = best.size(); i-- > 0; best.pop()) ids[i] = best.top().second;
}

void keep(Best& best, Hit hit, std::size_t most) {
  if (best.size() < most) {
    best.push(hit);
  } else if (hit.first < best.top().first) {
    best.pop();
    best.push(hit);
  }
}

class Peer {
 public:
  virtual ~Peer() = default;
  virtual void add(const float* x, std::size_t n, std::size_t threads) = 0;
  virtual void save(const char* path) = 0;
  virtual void load(const char* path) = 0;
  virtual void search(const std::string& rules, const float* q, std::size_t k, std::size_t ef, const Bitmap& allowed,
                      std::int64_t* ids) = 0;
};

template <typename One>
void in_parallel(std::size_t n, std::size_t threads, const One& one) {
  std::vector<std::thread> team;
  for (std::size_t t = 0; t < threads; ++t) {
    team.emplace_back([&, t] {
      for (std::size_t i = n * t / threads; i < n * (t + 1) / threads; ++i) one(i, t);
    });
  }
  for (std::thread& each : team) each.join();
}

#ifdef WITH_HNSWLIB

struct Functor : hnswlib::BaseFilterFunctor {
  explicit Functor(const Bitmap& bitmap) : allowed(bitmap) {}
  bool operator()(hnswlib::labeltype id) override { return allowed.has(id); }
  const Bitmap& allowed;
};

// Rows met by one walk.
class Seen {
 public:
  explicit Seen(std::size_t n) : marks_(n, 0) {}
  void clear() { ++now_; }
  bool insert(std::uint32_t row) {
    if (marks_[row] == now_) return false;
    marks_[row] = now_;
    return true;
  }

 private:
  std::vector<std::uint32_t> marks_;
  std::uint32_t now_ = 0;
};

class Hnswlib final : public Peer {
 public:
  Hnswlib(std::size_t n, std::size_t dim, std::size_t m, std::size_t efc)
      : dim_(dim), space_(dim), index_(&space_, n, m, efc), seen_(n) {}

  void add(const float* x, std::size_t n, std::size_t threads) override {
    index_.addPoint(x, 0);
    in_parallel(n - 1, threads, [&](std::size_t i, std::size_t) { index_.addPoint(x + (i + 1) * dim_, i + 1); });
    number();
  }
  void save(const char* path) override { index_.saveIndex(path); }
  void load(const char* path) override {
    index_.loadIndex(path, &space_);
    number();
  }

  void search(const std::string& rules, const float* q, std::size_t k, std::size_t ef, const Bitmap& allowed,
              std::int64_t* ids) override {
    Best best;
    if (rules == "hnswlib") {
      index_.setEf(ef);
      Functor filter(allowed);
      auto found = index_.searchKnn(q, k, allowed.count == allowed.n ? nullptr : &filter);
      for (; !found.empty(); found.pop()) best.emplace(found.top().first, found.top().second);
    } else if (rules == "lucene") {
      best = by_lucene(q, k, ef, allowed);
    } else {
      best = by_qdrant(q, k, ef, allowed, rules == "qdrant+acorn");
    }
    report(best, k, ids);
  }

 private:
  static constexpr std::size_t kScannedBytes = 10'000'000;  // Qdrant's full_scan_threshold
  static constexpr double kAcornShare = 0.4;                // at which it may look two steps far

  // A walk takes a node, and this is what it looks at next: rows that count, none twice.
  using Look = std::vector<std::uint32_t>;

  void number() {  // rows by internal number and the reverse: threads add in any order
    const std::size_t n = index_.cur_element_count;
    row_.resize(n);
    inner_.resize(n);
    for (std::uint32_t i = 0; i < n; ++i) {
      row_[i] = static_cast<std::uint32_t>(index_.getExternalLabel(i));
      inner_[row_[i]] = i;
    }
  }
  float distance(const float* q, std::uint32_t inner) {
    return index_.fstdistfunc_(q, index_.getDataByInternalId(inner), index_.dist_func_param_);
  }
  std::pair<const std::uint32_t*, std::size_t> links(std::uint32_t inner, int level) {
    const unsigned* list = level == 0 ? index_.get_linklist0(inner) : index_.get_linklist(inner, level);
    return {list + 1, index_.getListCount(const_cast<unsigned*>(list))};
  }
  std::uint32_t entry(const float* q) {
    std::uint32_t at = index_.enterpoint_node_;
    float nearest = distance(q, at);
    for (int level = index_.maxlevel_; level > 0; --level) {
      for (bool moved = true; moved;) {
        moved = false;
        const auto [list, count] = links(at, level);
        for (std::size_t i = 0; i < count; ++i) {
          const float d = distance(q, list[i]);
          if (d < nearest) nearest = d, at = list[i], moved = true;
        }
      }
    }
    return at;
  }
  Best exact(const float* q, std::size_t k, const Bitmap& allowed) {
    Best best;
    allowed.for_rows(
        [&](std::size_t row) { keep(best, {distance(q, inner_[row]), static_cast<std::uint32_t>(row)}, k); });
    return best;
  }

  // Filters before it scores. `expand(node, look)` names what is looked at from a node; false ends the walk.
  template <typename Expand>
  bool walk(const float* q, std::size_t ef, const Bitmap& allowed, const Expand& expand, Best& best) {
    seen_.clear();
    const std::uint32_t start = entry(q);
    seen_.insert(start);
    Nearest next;
    next.emplace(distance(q, start), start);
    if (allowed.has(row_[start])) best.emplace(next.top().first, row_[start]);
    Look look;
    while (!next.empty()) {
      const Hit at = next.top();
      if (best.size() == ef && at.first > best.top().first) break;
      next.pop();
      look.clear();
      if (!expand(at.second, look)) return false;
      for (const std::uint32_t inner : look) {
        const float d = distance(q, inner);
        if (best.size() == ef && d >= best.top().first) continue;
        next.emplace(d, inner);
        keep(best, {d, row_[inner]}, ef);
      }
    }
    return true;
  }

  // Few matches are scanned; else a walk over matches alone, or, where that may fall apart, through their neighbours.
  Best by_qdrant(const float* q, std::size_t k, std::size_t ef, const Bitmap& allowed, bool acorn) {
    if (allowed.count * dim_ * sizeof(float) < kScannedBytes) return exact(q, k, allowed);
    const bool far = acorn && allowed.count < kAcornShare * static_cast<double>(allowed.n);
    Best best;
    walk(
        q, std::max(ef, k), allowed,
        [&](std::uint32_t node, Look& look) {
          const auto [list, count] = links(node, 0);
          for (std::size_t i = 0; i < count; ++i) {
            if (!seen_.insert(list[i])) continue;
            if (allowed.has(row_[list[i]])) {
              look.push_back(list[i]);
            } else if (far) {
              const auto [second, more] = links(list[i], 0);
              for (std::size_t j = 0; j < more; ++j) {
                if (allowed.has(row_[second[j]]) && seen_.insert(second[j])) look.push_back(second[j]);
              }
            }
          }
          return true;
        },
        best);
    return best;
  }

  // Looks two steps far from nodes of which a tenth of the list does not match, until it has met as many matches as
  // the list would hold without a filter; once it has met as many as there are, all are scanned.
  Best by_lucene(const float* q, std::size_t k, std::size_t ef, const Bitmap& allowed) {
    const double share = static_cast<double>(allowed.count) / static_cast<double>(allowed.n);
    const double most = std::min(1.0 / std::max(share, 1e-9), static_cast<double>(index_.maxM0_) / 2);
    std::size_t visited = 0;
    Best best;
    const bool whole = walk(
        q, std::max(ef, k), allowed,
        [&](std::uint32_t node, Look& look) {
          const auto [list, count] = links(node, 0);
          std::size_t out = 0;
          second_.clear();
          for (std::size_t i = 0; i < count; ++i) {
            const bool counts = allowed.has(row_[list[i]]);
            out += counts ? 0 : 1;
            if (!seen_.insert(list[i])) continue;
            (counts ? look : second_).push_back(list[i]);
          }
          const double filtered = static_cast<double>(out) / static_cast<double>(std::max<std::size_t>(count, 1));
          if (filtered > 0.1) {
            const double target = static_cast<double>(count) * std::min(most, 1.0 / std::max(1.0 - filtered, 1e-9));
            for (std::size_t i = 0; i < second_.size() && static_cast<double>(look.size()) < target; ++i) {
              const auto [list2, count2] = links(second_[i], 0);
              for (std::size_t j = 0; j < count2; ++j) {
                if (allowed.has(row_[list2[j]]) && seen_.insert(list2[j])) look.push_back(list2[j]);
              }
            }
          }
          visited += look.size();
          return visited <= allowed.count;
        },
        best);
    if (!whole || best.size() < std::min(k, allowed.count)) return exact(q, k, allowed);
    return best;
  }

  std::size_t dim_;
  hnswlib::InnerProductSpace space_;
  hnswlib::HierarchicalNSW<float> index_;
  Seen seen_;
  std::vector<std::uint32_t> row_, inner_;
  Look second_;
};

#endif
#ifdef WITH_USEARCH

// As usearch's own kernels are, of a loop that the compiler puts in vectors.
float inner_distance(const float* a, const float* b, std::size_t dim) {
  float sum = 0.0f;
  for (std::size_t i = 0; i < dim; ++i) sum += a[i] * b[i];
  return 1.0f - sum;
}

class Usearch final : public Peer {
 public:
  Usearch(std::size_t n, std::size_t dim, std::size_t m, std::size_t efc) : dim_(dim) {
    using namespace unum::usearch;
    metric_punned_t metric = metric_punned_t::stateless(dim, reinterpret_cast<std::uintptr_t>(&call),
                                                        metric_punned_signature_t::array_array_size_k,
                                                        metric_kind_t::ip_k, scalar_kind_t::f32_k);
    index_dense_config_t config(m, efc, 64);
    config.enable_key_lookups = false;
    index_ = index_dense_t::make(metric, config).index;
    index_.try_reserve(index_limits_t(n, std::thread::hardware_concurrency()));
  }
  void add(const float* x, std::size_t n, std::size_t threads) override {
    in_parallel(n, threads, [&](std::size_t i, std::size_t t) { index_.add(i, x + i * dim_, t); });
  }
  void save(const char* path) override { index_.save(path); }
  void load(const char* path) override { index_.load(path); }
  void search(const std::string&, const float* q, std::size_t k, std::size_t ef, const Bitmap& allowed,
              std::int64_t* ids) override {
    index_.change_expansion_search(ef);
    const auto has = [&](unum::usearch::default_key_t key) { return allowed.has(key); };
    const bool all = allowed.count == allowed.n;
    auto found = all ? index_.search(q, k, 0) : index_.filtered_search(q, k, has, 0);
    for (std::size_t i = 0; i < k; ++i) ids[i] = i < found.size() ? static_cast<std::int64_t>(found[i].member.key) : -1;
  }

 private:
  static unum::usearch::distance_punned_t call(std::uintptr_t a, std::uintptr_t b, std::uintptr_t dim) {
    return inner_distance(reinterpret_cast<const float*>(a), reinterpret_cast<const float*>(b), dim);
  }
  std::size_t dim_;
  unum::usearch::index_dense_t index_;
};

#endif

}  // namespace

extern "C" {

void* peer_make(const char* library, std::size_t n, std::size_t dim, std::size_t m, std::size_t efc) {
#ifdef WITH_HNSWLIB
  if (std::strcmp(library, "hnswlib") == 0) return static_cast<Peer*>(new Hnswlib(n, dim, m, efc));
#endif
#ifdef WITH_USEARCH
  if (std::strcmp(library, "usearch") == 0) return static_cast<Peer*>(new Usearch(n, dim, m, efc));
#endif
  return nullptr;
}
void peer_free(void* peer) { delete static_cast<Peer*>(peer); }
void peer_add(void* peer, const float* x, std::size_t n, std::size_t threads) {
  static_cast<Peer*>(peer)->add(x, n, threads);
}
void peer_save(void* peer, const char* path) { static_cast<Peer*>(peer)->save(path); }
void peer_load(void* peer, const char* path) { static_cast<Peer*>(peer)->load(path); }
// Query i may find the rows of bitmap which[i]; ids (nq, k), -1 where there are fewer. One thread.
void peer_search(void* peer, const char* rules, const float* q, std::size_t nq, std::size_t dim, std::size_t k,
                 std::size_t ef, const std::uint64_t* words, const std::int64_t* counts, const std::int64_t* which,
                 std::size_t n, std::int64_t* ids) {
  const std::string name(rules);
  for (std::size_t i = 0; i < nq; ++i) {
    const auto number = static_cast<std::size_t>(which[i]);
    const Bitmap allowed{words + number * ((n + 63) / 64), static_cast<std::size_t>(counts[number]), n};
    static_cast<Peer*>(peer)->search(name, q + i * dim, k, ef, allowed, ids + i * k);
  }
}

}  // extern "C"
