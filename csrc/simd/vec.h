// The words kernels are written in. A level file is compiled with -DTSL_LEVEL=<level> and that level's flags; this
// header brings that level's words into tessella::<level>. Every level offers the same ones:
//
//   F32  kF32Lanes floats    zero_f32 set_f32 load_f32 store_f32 load_f16 load_bf16 load_u8_f32 load_u16_f32
//                            add sub mul fma(a,b,c)=a*b+c max_f32 reduce_add ge_mask store_round_u8
//   U8   kU8Lanes bytes      load_u8 store_u8 set_u8 and_u8 or_u8 add_u8 low_nibbles high_nibbles
//                            lookup16 (each 16-byte lane looks up in its own 16 entries)
//   U16  the same bits       zero_u16 accumulate_bytes(even, odd, x) store_rows (sums in row order)
//   I32  integer sums        zero_i32 dot_words (kWordLanes u8 x s16) dot_bytes (kU8Lanes u8 x s8, pairs of products
//                            within 16 bits) add_i32 reduce_add_i32
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

}  // namespace tessella::TSL_LEVEL
