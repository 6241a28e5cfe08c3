// Loops over the pixels of a row of logits; those of float are compiled for several instruction
// sets.
//
// Bilinear sampling is `a * (1 - weight) + b * weight`, as in PyTorch: what is not finite spreads
// as it does there.
#pragma once

#include <cstdint>

namespace deeplab2_d2 {

// out[x] = above[x] * (1 - weight) + below[x] * weight
void mix_rows(const float* above, const float* below, float weight, int64_t width, float* out);
void mix_rows(const double* above, const double* below, double weight, int64_t width, double* out);

// out[x] = row[lower[x]] * (1 - weight[x]) + next[lower[x]] * weight[x]
void mix_columns(const float* row, const float* next, const int32_t* lower, const float* weight,
                 int64_t count, float* out);
void mix_columns(const double* row, const double* next, const int32_t* lower, const double* weight,
                 int64_t count, double* out);

// The same for lower[x] = x / 4 and weight[x] = (x % 4) / 4.
void mix_columns_by_4(const float* row, const float* next, int64_t count, float* out);
void mix_columns_by_4(const double* row, const double* next, int64_t count, double* out);

// The largest of num_classes values, and the sum of exponentials over it, of each pixel.
//
// values: (C) rows, `stride` apart. The sum is NaN if a value is NaN or infinity, or all are
// -infinity.
void softmax_sums(const float* values, int64_t stride, int64_t num_classes, int64_t count,
                  float* largest, float* total);
void softmax_sums(const double* values, int64_t stride, int64_t num_classes, int64_t count,
                  double* largest, double* total);

// values[i] = exp(values[i] - largest[i]) * factor[i]
void scale_softmax(float* values, int64_t count, const float* largest, const float* factor);
void scale_softmax(double* values, int64_t count, const double* largest, const double* factor);

// sums[x] += row[x] * factor
void add_scaled(const float* row, float factor, int64_t width, float* sums);
void add_scaled(const double* row, double factor, int64_t width, double* sums);

// Whether every value is finite.
bool are_finite(const float* values, int64_t count);
bool are_finite(const double* values, int64_t count);

}  // namespace deeplab2_d2
