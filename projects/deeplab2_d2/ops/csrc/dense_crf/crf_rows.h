// Loops over rows of values, a row a pixel or a vertex of a lattice; those of float are compiled
// for several instruction sets.
//
// A row has `width` values, a multiple of kLanes: classes, then padding. Sums have an order that
// neither the instruction set nor the number of threads changes.
#pragma once

#include <cstdint>

namespace deeplab2_d2 {

constexpr int64_t kLanes = 8;

// What pixels read of a filtered table, and what they add to the table of the next filtering.
template <typename scalar_t>
struct PixelFilter {
  int64_t corners;                // rows of the tables that a pixel reads and adds to
  const int32_t* vertices;        // (pixels, corners): which
  const float* shares;            // (pixels, corners)
  const scalar_t* slice_factors;  // (pixels): factor on what is read
  const scalar_t* splat_factors;  // (pixels): factor on what is added; null for 1
  const scalar_t* values;         // (band's rows, width); null: nothing is read
  scalar_t* sums;                 // (band's rows, width); null: nothing is added
};

// The pixels begin .. end - 1, one after the other: row = softmax(scores[pixel] + what is read),
// which is added to the sums.
//
// What is less than 1e-26 of the largest is 0: it would end in subnormal numbers.
//
// row: scratch of `width`. rows: (end - begin, width) for the results; null: they are not kept.
void update_pixels(const float* scores, int64_t width, const PixelFilter<float>* filters,
                   int64_t num_filters, int64_t begin, int64_t end, float* row, float* rows);
void update_pixels(const double* scores, int64_t width, const PixelFilter<double>* filters,
                   int64_t num_filters, int64_t begin, int64_t end, double* row, double* rows);

// out[i] = sum of values[sources[j]], starts[i] <= j < starts[i + 1], of the rows begin .. end - 1
void sum_rows(const float* values, int64_t width, const int32_t* starts, const int32_t* sources,
              int64_t begin, int64_t end, float* out);
void sum_rows(const double* values, int64_t width, const int32_t* starts, const int32_t* sources,
              int64_t begin, int64_t end, double* out);

// out[i] = values[i] + (values[before] + values[after]) / 2, with `neighbors` (rows, 2)
void blur_rows(const float* values, int64_t width, const int32_t* neighbors, int64_t begin,
               int64_t end, float* out);
void blur_rows(const double* values, int64_t width, const int32_t* neighbors, int64_t begin,
               int64_t end, double* out);

}  // namespace deeplab2_d2
