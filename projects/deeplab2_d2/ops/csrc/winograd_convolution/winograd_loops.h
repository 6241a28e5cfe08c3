// The inner loops of the 3x3 convolution by Winograd's minimal filtering, F(4 x 4, 3 x 3).
#pragma once

#include <cstdint>

#include "../activation.h"

namespace deeplab2_d2 {

// A tile of 4 x 4 outputs reads 6 x 6 pixels, which become 36 values of each channel; the kernel
// becomes 36, too, and place by place their products are summed over channels.
constexpr int kTileOutputs = 4;
constexpr int kTileInputs = 6;
constexpr int kPlaces = kTileInputs * kTileInputs;

// Output channels whose transformed kernels lie together, and tiles that are multiplied at a time.
constexpr int64_t kPanel = 16;
constexpr int64_t kTilesTogether = 6;

// weight: (3, 3, channels, outputs), output channels [first, first + kPanel) of it, zeros beyond
// the last. panels: (kPlaces, channels, kPanel), with plane_step from a place to the next one.
void transform_kernels(const float* weight, int64_t channels, int64_t outputs, int64_t first,
                       int64_t plane_step, float* panels);

// pixels: kPlaces pointers to the channels of the pixels that a tile reads, row by row. values:
// (kPlaces, channels), with plane_step.
void transform_tile(const float* const* pixels, int64_t channels, int64_t plane_step,
                    float* values);

// values: (num_tiles, channels); panel: (channels, kPanel); sums: (num_tiles, kPanel) with a step.
// num_tiles: a multiple of kTilesTogether.
void multiply_panel(const float* values, int64_t num_tiles, int64_t channels, const float* panel,
                    int64_t sum_step, float* sums);

// sums: (kPlaces, outputs) of a tile, with plane_step. pixels: kTileOutputs^2 pointers to where the
// output channels of a pixel go.
void finish_tile(const float* sums, int64_t plane_step, int64_t outputs, const float* bias,
                 Activation activation, float* const* pixels);

}  // namespace deeplab2_d2
