// Which rows may be returned, one bit a row by row number. Whoever has filters compiles them to this; a search sees
// nothing else of them.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tessella {

class RowFilter;

// Bit i % 64 of word i / 64. No words: all rows. Rows beyond the last word are not admitted.
struct RowBitmap {
  std::span<const std::uint64_t> words;
  std::size_t count = 0;                    // bits that are set
  std::span<const std::uint32_t> few = {};  // the admitted rows, ascending, where somebody has written them down
  RowFilter* filter = nullptr;              // whose it is, where searches may leave something for later ones

  bool all() const { return words.empty(); }
  bool admits(std::size_t row) const {
    return words.empty() || (row / 64 < words.size() && (words[row / 64] >> (row % 64) & 1) != 0);
  }
  // One bit for each row of a block of 32.
  std::uint32_t block(std::size_t number) const {
    if (words.empty()) return UINT32_MAX;
    return number / 2 < words.size() ? static_cast<std::uint32_t>(words[number / 2] >> (number % 2 * 32)) : 0;
  }
  // The admitted rows in [first, last), ascending; `first` is a multiple of 64.
  template <typename Each>
  void for_rows(std::size_t first, std::size_t last, const Each& each) const {
    if (!few.empty()) {
      for (auto at = std::lower_bound(few.begin(), few.end(), first); at != few.end() && *at < last; ++at) each(*at);
      return;
    }
    const std::size_t end = std::min((last + 63) / 64, words.size());
    for (std::size_t w = first / 64; w < end; ++w) {
      std::uint64_t bits = words[w];
      if (w == last / 64) bits &= (std::uint64_t{1} << last % 64) - 1;
      for (; bits != 0; bits &= bits - 1) each(w * 64 + static_cast<std::size_t>(std::countr_zero(bits)));
    }
  }
};

}  // namespace tessella
