// The words kernels are written in. A level file is compiled with -DTSL_LEVEL=<level> and that level's flags; this
// header brings that level's words into tessella::<level>. Every level offers the same ones:
//
//   F32  kF32Lanes floats    zero_f32 set_f32 load_f32 store_f32 load_f16 load_bf16 load_u8_f32 load_u16_f32
//                            add sub mul fma(a,b,c)=a*b+c min_f32 max_f32 reduce_add ge_mask store_round_u8
//                            div_f32 sqrt_f32 round_f32 (nearest even) power_of_two (of whole numbers -126 .. 127)
//                            where_greater(a, b, yes, no), lane by lane
//                            negate_where(x, lane mask) hadamard (Walsh-Hadamard transform of the lanes) held
//                            store_f16 (nearest even) transpose (kF32Lanes vectors, as rows of a square)
//   U8   kU8Lanes bytes      load_u8 store_u8 set_u8 and_u8 or_u8 add_u8 low_nibbles high_nibbles
//                            held (in a register, not loaded again for each use)
//                            lookup16 (each 16-byte lane looks up in its own 16 entries)
//   U16  the same bits       zero_u16 accumulate_bytes(even, odd, x) store_rows (sums in row order)
//                            any_reaches(even, odd, least): does the sum of any row?
//                            where kByteTables: lookup256, load_pieces (64 rows' bytes, transposed), store_group
//   Codes64  64 bytes        load_codes load_nibbles load_pairs load_bits: a byte a dimension, in order, from 64, 32
//                            (dims i and i+32), 16 (dims i, i+16, i+32, i+48) or 8 bytes (bit 0 first); .v[64 /
//                            kU8Lanes]
//   I32  integer sums        zero_i32 reduce_add_i32 reduce_add_4 (four vectors to four sums)
//                            dot_bytes (Codes64 x 64 s8) dot_words (Codes64 x 64 words of two s8 digits, 64 * high +
//                            low; the high ones first); the sum of any four products of a code and a byte fits 16 bits
//                            dot_signed (64 bytes -127 .. 127 x as many)
//   RowWalk<T, rows>         row(r), advance: rows at equal distances, for broadcasts
//   S32  kF32Lanes sums      load_s32 to_f32 add_products(S32, Lanes, Lanes): each lane adds kLaneDims products
//   Lanes kF32Lanes lanes    load_lanes of QueryBytes, set_lanes of kLaneDims TokenBytes, store_token_bytes(U8): signed
//        of kLaneDims dims   bytes as the level multiplies them; a TokenByte has kTokenBias more than it stands for
//   S64  kS64Lanes integers  set_s64 load_s64 store_s64 last_s64 (the last lane)
//                            sink(a, before, x): a list in descending order, `before` lying before `a`, takes x in
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef TSL_LEVEL
#error "TSL_LEVEL names the level this file is compiled for"
#endif

#define TSL_INLINE static inline __attribute__((always_inline))

#if defined(TSL_LEVEL_SCALAR)
#include "simd/scalar.h"
#elif defined(TSL_LEVEL_AVX2)
#include "simd/avx2.h"
#elif defined(TSL_LEVEL_AVX512)
#include "simd/avx512.h"
#elif defined(TSL_LEVEL_NEON)
#include "simd/neon.h"
#endif

namespace tessella::TSL_LEVEL {

TSL_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }

// Rows at equal distances, walked along together: four addresses from each pointer, which fit the registers that one
// pointer a row would not.
template <typename T, int kRows>
struct RowWalk {
  const char* every_fourth[(kRows + 3) / 4];
  std::size_t stride, stride3;

  __attribute__((always_inline)) RowWalk(const T* rows, std::size_t values)
      : stride(values * sizeof(T)), stride3(3 * values * sizeof(T)) {
    for (int i = 0; i < (kRows + 3) / 4; ++i) {
      every_fourth[i] = reinterpret_cast<const char*>(rows) + 4 * i * stride;
      asm("" : "+r"(every_fourth[i]));  // or the compiler would find the row a pointer is a distance from
    }
  }
  __attribute__((always_inline)) const T* row(int r) const {
    const char* near = every_fourth[r / 4];
    return reinterpret_cast<const T*>(near + (r % 4 == 3 ? stride3 : static_cast<std::size_t>(r % 4) * stride));
  }
  __attribute__((always_inline)) void advance(int values) {
#pragma GCC unroll 8
    for (int i = 0; i < (kRows + 3) / 4; ++i) every_fourth[i] += static_cast<std::size_t>(values) * sizeof(T);
  }
};

}  // namespace tessella::TSL_LEVEL
