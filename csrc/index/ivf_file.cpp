// An inverted file's way into a snapshot and back; what comes back is checked before anything changes.
#include <algorithm>
#include <string>

#include "index/ivf.h"
#include "tessella/errors.h"

namespace tessella {

IvfSnapshot IvfIndex::snapshot() {
  const auto publishing = lock_.write();  // lists are copied before the next write
  IvfSnapshot snapshot{ids_.size(),     ids_.next_id(),       {},       rows_.centre(),    lists_.count(),
                       rows_.columns(), centroids_.columns(), shrinks_, lists_.snapshot(), {}};
  if (rows_.pq() != nullptr) snapshot.pq = *rows_.pq();
  if (const std::int64_t* ids = ids_.data()) snapshot.ids.emplace(ids, ids + ids_.size());
  return snapshot;
}

// Every list entry must name a row there is, no row twice in a list, and every row as often as lists spill.
std::array<std::vector<std::uint32_t>, IvfIndex::kHomes> IvfIndex::checked_homes(const IvfSnapshot& snapshot) const {
  const auto refuse_file = [](const std::string& what) { throw Error(ErrorKind::kFormat, "load: " + what); };
  std::array<std::vector<std::uint32_t>, kHomes> homes;
  std::size_t entries = 0;
  for (const InvertedLists::List& list : snapshot.entries) entries += list.size;
  if (snapshot.rows > entries) refuse_file("there are fewer list entries than rows");
  for (std::size_t h = 0; h < this->homes(); ++h) homes[h].assign(snapshot.rows, kNone);
  for (std::size_t l = 0; l < snapshot.entries.size(); ++l) {
    for (const std::uint32_t row : snapshot.entries[l].numbers()) {
      if (row >= snapshot.rows) refuse_file("a list names a row that is not there");
      std::size_t h = 0;
      while (h < this->homes() && homes[h][row] != kNone) {
        if (homes[h][row] == l) refuse_file("a list names a row twice");
        ++h;
      }
      if (h == this->homes()) refuse_file("a row is in more lists than its spec allows");
      homes[h][row] = static_cast<std::uint32_t>(l);
    }
  }
  if (std::find(homes[0].begin(), homes[0].end(), kNone) != homes[0].end()) refuse_file("a row is in no list");
  return homes;
}

void IvfIndex::restore(IvfSnapshot snapshot) {
  const auto refuse_file = [](const std::string& what) { throw Error(ErrorKind::kFormat, "load: " + what); };
  if (snapshot.rows > kMaxRows) refuse_file("the file claims more rows than an index can hold");
  if (snapshot.centre.size() != config().dim) refuse_file("the centre does not have the index's dimension");
  if (snapshot.ids && snapshot.ids->size() != snapshot.rows) refuse_file("there are not as many ids as rows");
  if (snapshot.shrinks.size() != snapshot.lists) refuse_file("there are not as many shrinks as lists");
  if (snapshot.entries.size() != snapshot.lists) refuse_file("there are not as many lists as centroids");
  rows_.check_columns(snapshot.columns, snapshot.rows);
  centroids_.check_columns(snapshot.centroids, snapshot.lists);
  if (rows_.has(Codec::Kind::kPq) && snapshot.rows > 0 && !snapshot.pq) refuse_file("the codebooks are missing");
  auto homes = checked_homes(snapshot);
  IdMap ids = restored_ids(snapshot.ids, snapshot.rows, snapshot.next_id);
  const std::lock_guard writing(writer_);
  const auto publishing = lock_.write();
  if (snapshot.pq) rows_.set_pq(std::move(*snapshot.pq), ErrorKind::kFormat);
  ids_ = std::move(ids);
  homes_ = std::move(homes);
  rows_.replace_columns(std::move(snapshot.columns));
  rows_.set_centre(snapshot.centre);
  centroids_.replace_columns(std::move(snapshot.centroids));
  centroids_.set_centre(std::move(snapshot.centre));
  lists_.restore(std::move(snapshot.entries));
  shrinks_ = std::move(snapshot.shrinks);
  trained_ = snapshot.lists > 0;
  refresh_centroids();
}

}  // namespace tessella
