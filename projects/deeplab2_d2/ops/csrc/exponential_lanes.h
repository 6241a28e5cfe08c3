// The functions of exponential.h on vectors, bit by bit: compilers leave some loops over them
// alone.
#pragma once

#include "exponential.h"
#include "vectors.h"

namespace deeplab2_d2 {

// exp(x) in place, see exp_nonpositive().
template <int num_lanes>
DEEPLAB2_D2_INLINE void exp_nonpositive_lanes(typename Lanes<float, num_lanes>::type& x) {
  using Floats = typename Lanes<float, num_lanes>::type;
  using Integers = typename Lanes<int32_t, num_lanes>::type;
  const Floats lowest = Floats{} - 87.0f;
  const Floats limited = x > lowest ? x : lowest;
  x = x < lowest ? lowest : x;
  const Integers n = __builtin_convertvector(limited * 1.44269504f - 0.5f, Integers);
  const Integers bits = (n + 127) << 23;
  Floats power;
  std::memcpy(&power, &bits, sizeof(power));
  const Floats whole = __builtin_convertvector(n, Floats);
  const Floats r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
  Floats p = Floats{} + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  x = p * power;
}

// total[x] = sum of exp(rows[c][x] - largest[x]) over the rows, one after the other, of `count`
// columns; rows are `stride` apart.
DEEPLAB2_D2_INLINE void sum_exponentials_of(const float* rows, int64_t stride, int64_t num_rows,
                                            int64_t count, const float* largest, float* total) {
  constexpr int kLanes = 8;
  using Floats = typename Lanes<float, kLanes>::type;
  int64_t x = 0;
  // Two vectors at a time, so that the processor has something to do while it waits for one.
  for (; x + 2 * kLanes <= count; x += 2 * kLanes) {
    Floats highest[2], sums[2];
    for (int v = 0; v < 2; ++v) {
      load(largest + x + v * kLanes, highest[v]);
      sums[v] = Floats{};
    }
    for (int64_t c = 0; c < num_rows; ++c) {
      for (int v = 0; v < 2; ++v) {
        Floats terms;
        load(rows + c * stride + x + v * kLanes, terms);
        terms = terms - highest[v];
        exp_nonpositive_lanes<kLanes>(terms);
        sums[v] = sums[v] + terms;
      }
    }
    for (int v = 0; v < 2; ++v) {
      store(sums[v], total + x + v * kLanes);
    }
  }
  for (; x < count; ++x) {
    float sum = 0.0f;
    for (int64_t c = 0; c < num_rows; ++c) {
      sum += exp_nonpositive(rows[c * stride + x] - largest[x]);
    }
    total[x] = sum;
  }
}

inline void sum_exponentials_of(const double* rows, int64_t stride, int64_t num_rows, int64_t count,
                                const double* largest, double* total) {
  for (int64_t x = 0; x < count; ++x) {
    total[x] = 0.0;
    for (int64_t c = 0; c < num_rows; ++c) {
      total[x] += exp_nonpositive(rows[c * stride + x] - largest[x]);
    }
  }
}

// values[x] = exp(values[x] - largest[x]) * factor[x]
DEEPLAB2_D2_INLINE void scale_exponentials_of(float* values, int64_t count, const float* largest,
                                              const float* factor) {
  constexpr int kLanes = 8;
  using Floats = typename Lanes<float, kLanes>::type;
  int64_t x = 0;
  for (; x + kLanes <= count; x += kLanes) {
    Floats terms, highest, factors;
    load(values + x, terms);
    load(largest + x, highest);
    load(factor + x, factors);
    terms = terms - highest;
    exp_nonpositive_lanes<kLanes>(terms);
    store(terms * factors, values + x);
  }
  for (; x < count; ++x) {
    values[x] = exp_nonpositive(values[x] - largest[x]) * factor[x];
  }
}

inline void scale_exponentials_of(double* values, int64_t count, const double* largest,
                                  const double* factor) {
  for (int64_t x = 0; x < count; ++x) {
    values[x] = exp_nonpositive(values[x] - largest[x]) * factor[x];
  }
}

}  // namespace deeplab2_d2
