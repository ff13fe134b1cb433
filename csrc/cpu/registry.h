// The levels of this build that this CPU can run, best first, and the one in use.
#pragma once

#include <string>
#include <vector>

#include "tessella/kernels.h"

namespace tessella::cpu {

std::vector<std::string> available_levels();

// The active table. Chosen on first use: TESSELLA_ISA if set, else the best level.
const Kernels& active_kernels();

// Pins a level; throws InvalidArgument naming what is available when this build or CPU lacks it.
void pin_level(const std::string& level);

}  // namespace tessella::cpu
