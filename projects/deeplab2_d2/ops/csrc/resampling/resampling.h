// Bilinear resampling with aligned corners on the CPU; the arithmetic of
// ops/reference/resampling.py.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace deeplab2_d2 {

// Where the output pixels of one axis lie in the source: position = float(i) * scale.
template <typename scalar_t>
struct AxisPositions {
  std::vector<int32_t> lower;    // source pixel below the position
  std::vector<scalar_t> weight;  // of the pixel above, which is `lower + 1` or, at the end, `lower`
  bool is_identity;              // position i is source pixel i
  bool is_quarter;               // position i is i / 4: the maps' stride is 4
  bool is_near;                  // any 8 positions in a row lie between 9 source pixels in a row

  AxisPositions(int64_t count, int64_t source_length, scalar_t scale)
      : lower(count),
        weight(count),
        is_identity(count == source_length && scale == scalar_t(1)),
        is_quarter(scale == scalar_t(0.25) && count == 4 * (source_length - 1) + 1),
        is_near(true) {
    for (int64_t i = 0; i < count; ++i) {
      const scalar_t position = static_cast<scalar_t>(i) * scale;
      lower[i] = static_cast<int32_t>(std::min(static_cast<int64_t>(position), source_length - 1));
      weight[i] = position - static_cast<scalar_t>(lower[i]);
      is_near = is_near && lower[i] - lower[std::max<int64_t>(i - 7, 0)] < 8;
    }
  }
};

// out[x] = above[x] + (below[x] - above[x]) * weight
void blend_rows(const float* above, const float* below, float weight, int64_t width, float* out);

// The same for the source multiplied by `factor` first.
void blend_scaled_rows(const float* above, const float* below, float factor, float weight,
                       int64_t width, float* out);

// step[x] = row[x + 1] - row[x]; in the last column 0, or NaN where the row is not finite.
void row_steps(const float* row, int64_t width, float* step);

// out[x] = row[lower[x]] + step[lower[x]] * weight[x]
void expand_row(const float* row, const float* step, const int32_t* lower, const float* weight,
                int64_t count, float* out);

// Floats behind a row and its steps that `expand_near_row` may read. They change nothing.
constexpr int64_t kNearPadding = 8;

// The same for lower and weight of `AxisPositions` that are near, from any of them on.
void expand_near_row(const float* row, const float* step, const int32_t* lower, const float* weight,
                     int64_t count, float* out);

// The same for lower[x] = x / 4 and weight[x] = (x % 4) / 4.
void expand_row_by_4(const float* row, const float* step, int64_t count, float* out);

}  // namespace deeplab2_d2
