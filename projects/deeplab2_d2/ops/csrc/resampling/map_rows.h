// Rows of the output of several maps of one size, made part by part while they are in the cache.
#pragma once

#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "resampling.h"

namespace deeplab2_d2 {

// Where the pixels of an output lie in maps.
struct MapFrame {
  int64_t map_height, map_width, height, width;
  AxisPositions<float> rows, columns;

  // size, scale: of the operators.
  MapFrame(int64_t map_height, int64_t map_width, at::IntArrayRef size, at::ArrayRef<double> scale)
      : map_height(map_height),
        map_width(map_width),
        height(size[0]),
        width(size[1]),
        rows(size[0], map_height, static_cast<float>(scale[0])),
        columns(size[1], map_width, static_cast<float>(scale[1])) {}

  // Whether the maps have the output's resolution already.
  bool is_identity() const { return rows.is_identity && columns.is_identity; }
  int64_t map_area() const { return map_height * map_width; }
};

// One thread's rows of as many maps as there are slots.
class MapRows {
 public:
  MapRows(const MapFrame& frame, int64_t num_slots)
      : frame_(frame),
        blended_(num_slots * frame.map_width + kNearPadding),
        steps_(num_slots * frame.map_width + kNearPadding) {}

  // The rows of a map (times a factor) between which output row y lies, blended into `slot`.
  void blend(const float* map, int64_t y, float factor, int64_t slot) {
    const int64_t width = frame_.map_width, lower = frame_.rows.lower[y];
    const int64_t upper = std::min(lower + 1, frame_.map_height - 1);
    float* row = &blended_[slot * width];
    const float *above = map + lower * width, *below = map + upper * width;
    if (factor == 1.0f) {
      blend_rows(above, below, frame_.rows.weight[y], width, row);
    } else {
      blend_scaled_rows(above, below, factor, frame_.rows.weight[y], width, row);
    }
    row_steps(row, width, &steps_[slot * width]);
  }

  // The pixels first .. first + count - 1 of the row in `slot`.
  void expand(int64_t slot, int64_t first, int64_t count, float* out) const {
    const float* row = &blended_[slot * frame_.map_width];
    const float* step = &steps_[slot * frame_.map_width];
    const AxisPositions<float>& columns = frame_.columns;
    if (columns.is_near) {
      expand_near_row(row, step, &columns.lower[first], &columns.weight[first], count, out);
    } else {
      expand_row(row, step, &columns.lower[first], &columns.weight[first], count, out);
    }
  }

 private:
  const MapFrame& frame_;
  std::vector<float> blended_, steps_;  // (slots, w), and the padding
};

// Pixels of a row whose values of all channels are in the cache at a time.
constexpr int64_t kChannelPixels = 256;

// One thread's pixels of all channels of an image, (C, h, w).
class ChannelRows {
 public:
  ChannelRows(const MapFrame& frame, int64_t num_channels)
      : frame_(frame),
        num_channels_(num_channels),
        rows_(frame, frame.is_identity() ? 0 : num_channels),
        values_(frame.is_identity() ? 0 : num_channels * kChannelPixels) {}

  // Makes row y ready for `values`.
  void start(const float* maps, int64_t y) {
    for (int64_t c = 0; !frame_.is_identity() && c < num_channels_; ++c) {
      rows_.blend(maps + c * frame_.map_area(), y, 1.0f, c);
    }
  }

  // The pixels first .. first + count - 1 of row y, at most kChannelPixels; channel c begins at
  // c * `stride`.
  const float* values(const float* maps, int64_t y, int64_t first, int64_t count, int64_t& stride) {
    if (frame_.is_identity()) {
      stride = frame_.map_area();
      return maps + y * frame_.width + first;
    }
    stride = kChannelPixels;
    for (int64_t c = 0; c < num_channels_; ++c) {
      rows_.expand(c, first, count, &values_[c * kChannelPixels]);
    }
    return values_.data();
  }

 private:
  const MapFrame& frame_;
  int64_t num_channels_;
  MapRows rows_;
  std::vector<float> values_;  // (C, kChannelPixels)
};

// values: `num_channels` rows of `count`, `stride` apart. Ties go to the first channel, the first
// NaN is the largest.
void largest_channel(const float* values, int64_t stride, int64_t num_channels, int64_t count,
                     float* best, int32_t* channel);

}  // namespace deeplab2_d2
