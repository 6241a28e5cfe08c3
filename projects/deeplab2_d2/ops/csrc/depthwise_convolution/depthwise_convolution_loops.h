// The inner loops of the depthwise convolution.
#pragma once

#include <cstdint>

#include "../activation.h"

namespace deeplab2_d2 {

// Neighboring pixels of a row of the output whose taps in the features are the same ones. Steps
// count numbers, not bytes.
struct DepthwiseRun {
  int64_t num_pixels;
  // Taps that lie in the features.
  int64_t num_rows, num_columns;
  // From a tap to the next one: of the features, and of the kernel.
  int64_t row_step, column_step;
  int64_t weight_row_step, weight_column_step;
  // From a pixel to the next one.
  int64_t input_step, output_step;
  int64_t channels;
  Activation activation;
};

// features: at the first pixel's first tap; weight: at that tap; bias: (C); output: at the first
// pixel. Channels are the last axis of all.
void convolve_run(const DepthwiseRun& run, const float* features, const float* weight,
                  const float* bias, float* output);

// The same of the bits of bfloat16; sums are of float32.
void convolve_run(const DepthwiseRun& run, const uint16_t* features, const float* weight,
                  const float* bias, uint16_t* output);

}  // namespace deeplab2_d2
