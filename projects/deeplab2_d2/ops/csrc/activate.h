// Activations of vectors in registers.
#pragma once

#include "activation.h"
#include "vectors.h"

namespace deeplab2_d2 {

// NaN stays NaN.
template <typename Floats>
DEEPLAB2_D2_INLINE void limit(float lowest, float highest, Floats& values) {
  const Floats low = Floats{} + lowest, high = Floats{} + highest;
  values = values < low ? low : values;
  values = values > high ? high : values;
}

// Of `count` vectors, known when it is compiled.
template <typename Floats>
DEEPLAB2_D2_INLINE void activate(Activation activation, int count, Floats* values) {
  // Unrolled, so that they stay in registers.
  if (activation == Activation::kRelu) {
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) {
      values[i] = values[i] < Floats{} ? Floats{} : values[i];
    }
  } else if (activation == Activation::kRelu6) {
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) {
      limit(0.0f, 6.0f, values[i]);
    }
  } else if (activation == Activation::kHardSwish) {
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) {
      Floats gate = values[i] + 3.0f;
      limit(0.0f, 6.0f, gate);
      values[i] = values[i] * gate * (1.0f / 6.0f);
    }
  }
}

}  // namespace deeplab2_d2
