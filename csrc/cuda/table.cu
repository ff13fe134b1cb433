#include "cuda/table.h"

#include "cuda/exact.h"

namespace tessella::cuda {

const Kernels& kernels() {
  static const Kernels table = [] {
    Kernels made{};
    made.level = "cuda";
    made.exact_topk = &exact_topk;
    made.exact_topk_scratch = &exact_topk_scratch;
    made.exact_score = &exact_score;
    return made;
  }();
  return table;
}

}  // namespace tessella::cuda
