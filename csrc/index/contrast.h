// Contrastive losses over all threads, in pieces whose order does not depend on how many there are.
#pragma once

#include "tessella/kernels.h"

namespace tessella {

// As tessella/contrast.h says; scratch is found here. Gradients are written, not added to.
void contrast_forward(const Kernels& kernels, const Contrast& pairs, float* out, std::size_t threads);
void contrast_backward(const Kernels& kernels, ContrastBackward whole, std::size_t threads);

}  // namespace tessella
