// 1-bit codes of the rows that a filter admits, copied one behind another, so that a search under it is a scan of
// nothing else: 56 bytes a row at 384 dimensions where a gathering reads 384 of the 8-bit code.
//
// Only the codes that a scan reads are copied. The rows that it leaves to be looked at are scored where they lie, by
// the index's own codecs, so their scores are those of every other way.
#pragma once

#include <vector>

#include "common/buffer.h"
#include "index/filtered.h"

namespace tessella {

struct CopiedRows {
  std::vector<std::uint32_t> numbers;  // of the rows, ascending
  AlignedBuffer blocks;                // of 32 rows, see tessella/rabitq.h

  std::size_t nbytes() const { return numbers.size() * sizeof(std::uint32_t) + blocks.size(); }
};

// Of the rows that `allowed` admits. Codes are copied where the store has them about its centre, and made of what the
// finest codec says where it has not.
CopiedRows copy_rows(const Rows& rows, const RowBitmap& allowed, const IdMap& ids);

// The k best of each query's copies, which its filter has made in the request's state.
CandidateLists scan_copies(const SearchRequest& request, const RowScorer& scorer, const IdMap& ids);

}  // namespace tessella
