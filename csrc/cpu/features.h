// What the CPU under us can do, asked once.
#pragma once

namespace tessella::cpu {

bool has_avx2();    // with FMA, F16C, BMI2, POPCNT
bool has_avx512();  // F, BW, DQ, VL, VBMI, VNNI, VPOPCNTDQ, and has_avx2

}  // namespace tessella::cpu
