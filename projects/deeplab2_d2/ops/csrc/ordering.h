// The order of floats that may be NaN.
#pragma once

#include "exponential.h"

namespace deeplab2_d2 {

// Whether a value takes the place of the largest so far: it is larger, or the first that is NaN, as
// in torch.argmax.
template <typename scalar_t>
DEEPLAB2_D2_EVERYWHERE inline __attribute__((always_inline)) bool is_new_largest(scalar_t value,
                                                                                 scalar_t largest) {
  return !(value <= largest) & (largest == largest);
}

}  // namespace deeplab2_d2
