#include "cross_entropy_loops.h"

#include "../dispatch.h"
#include "../exponential_lanes.h"

namespace deeplab2_d2 {
namespace {

template <typename scalar_t>
DEEPLAB2_D2_INLINE void mix_rows_of(const scalar_t* above, const scalar_t* below, scalar_t weight,
                                    int64_t width, scalar_t* out) {
  for (int64_t x = 0; x < width; ++x) {
    out[x] = above[x] * (scalar_t(1) - weight) + below[x] * weight;
  }
}

template <typename scalar_t>
DEEPLAB2_D2_INLINE void mix_columns_of(const scalar_t* row, const scalar_t* next,
                                       const int32_t* lower, const scalar_t* weight, int64_t count,
                                       scalar_t* out) {
  for (int64_t x = 0; x < count; ++x) {
    out[x] = row[lower[x]] * (scalar_t(1) - weight[x]) + next[lower[x]] * weight[x];
  }
}

template <typename scalar_t>
DEEPLAB2_D2_INLINE void softmax_sums_of(const scalar_t* values, int64_t stride, int64_t num_classes,
                                        int64_t count, scalar_t* largest, scalar_t* total) {
  for (int64_t i = 0; i < count; ++i) {
    largest[i] = values[i];
  }
  for (int64_t c = 1; c < num_classes; ++c) {
    const scalar_t* row = values + c * stride;
    for (int64_t i = 0; i < count; ++i) {
      largest[i] = row[i] > largest[i] ? row[i] : largest[i];
    }
  }
  sum_exponentials_of(values, stride, num_classes, count, largest, total);
}

template <typename scalar_t>
DEEPLAB2_D2_INLINE void scale_softmax_of(scalar_t* values, int64_t count, const scalar_t* largest,
                                         const scalar_t* factor) {
  scale_exponentials_of(values, count, largest, factor);
}

template <typename scalar_t>
DEEPLAB2_D2_INLINE void add_scaled_of(const scalar_t* row, scalar_t factor, int64_t width,
                                      scalar_t* sums) {
  for (int64_t x = 0; x < width; ++x) {
    sums[x] += row[x] * factor;
  }
}

template <typename scalar_t>
DEEPLAB2_D2_INLINE bool are_finite_of(const scalar_t* values, int64_t count) {
  int32_t num_others = 0;
  for (int64_t i = 0; i < count; ++i) {
    num_others |= !(values[i] - values[i] == scalar_t(0));
  }
  return num_others == 0;
}

}  // namespace

DEEPLAB2_D2_CLONES
void mix_rows(const float* above, const float* below, float weight, int64_t width, float* out) {
  mix_rows_of(above, below, weight, width, out);
}

void mix_rows(const double* above, const double* below, double weight, int64_t width, double* out) {
  mix_rows_of(above, below, weight, width, out);
}

DEEPLAB2_D2_CLONES
void mix_columns(const float* row, const float* next, const int32_t* lower, const float* weight,
                 int64_t count, float* out) {
  mix_columns_of(row, next, lower, weight, count, out);
}

void mix_columns(const double* row, const double* next, const int32_t* lower, const double* weight,
                 int64_t count, double* out) {
  mix_columns_of(row, next, lower, weight, count, out);
}

void mix_columns_by_4(const float* row, const float* next, int64_t count, float* out) {
  // A vector extension of GCC and Clang, on every processor.
  typedef float Vector4 __attribute__((vector_size(16), aligned(4)));
  const Vector4 weight = {0.0f, 0.25f, 0.5f, 0.75f}, rest = 1.0f - weight;
  int64_t x = 0;
  for (; x + 4 <= count; x += 4) {
    *reinterpret_cast<Vector4*>(out + x) = row[x / 4] * rest + next[x / 4] * weight;
  }
  for (; x < count; ++x) {
    out[x] = row[x / 4] * rest[x % 4] + next[x / 4] * weight[x % 4];
  }
}

void mix_columns_by_4(const double* row, const double* next, int64_t count, double* out) {
  for (int64_t x = 0; x < count; ++x) {
    const double weight = 0.25 * static_cast<double>(x % 4);
    out[x] = row[x / 4] * (1.0 - weight) + next[x / 4] * weight;
  }
}

DEEPLAB2_D2_CLONES
void softmax_sums(const float* values, int64_t stride, int64_t num_classes, int64_t count,
                  float* largest, float* total) {
  softmax_sums_of(values, stride, num_classes, count, largest, total);
}

void softmax_sums(const double* values, int64_t stride, int64_t num_classes, int64_t count,
                  double* largest, double* total) {
  softmax_sums_of(values, stride, num_classes, count, largest, total);
}

DEEPLAB2_D2_CLONES
void scale_softmax(float* values, int64_t count, const float* largest, const float* factor) {
  scale_softmax_of(values, count, largest, factor);
}

void scale_softmax(double* values, int64_t count, const double* largest, const double* factor) {
  scale_softmax_of(values, count, largest, factor);
}

DEEPLAB2_D2_CLONES
void add_scaled(const float* row, float factor, int64_t width, float* sums) {
  add_scaled_of(row, factor, width, sums);
}

void add_scaled(const double* row, double factor, int64_t width, double* sums) {
  add_scaled_of(row, factor, width, sums);
}

DEEPLAB2_D2_CLONES
bool are_finite(const float* values, int64_t count) { return are_finite_of(values, count); }

bool are_finite(const double* values, int64_t count) { return are_finite_of(values, count); }

}  // namespace deeplab2_d2
