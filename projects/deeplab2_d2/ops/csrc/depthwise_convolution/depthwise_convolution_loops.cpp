#include "depthwise_convolution_loops.h"

#include "../activate.h"
#include "../dispatch.h"
// Last.
#include "../joined_sums.h"

namespace deeplab2_d2 {
namespace {

// Pixels whose sums are in registers at a time, and vectors of channels of each: a cache line.
constexpr int kPixels = 6;
constexpr int kVectors = 2;
constexpr int kLanes = 8;

template <int num_lanes>
using Floats = typename Lanes<float, num_lanes>::type;

template <int num_lanes>
DEEPLAB2_D2_INLINE void read(const float* from, Floats<num_lanes>& values) {
  load(from, values);
}

template <int num_lanes>
DEEPLAB2_D2_INLINE void read(const uint16_t* from, Floats<num_lanes>& values) {
  typename Lanes<uint16_t, num_lanes>::type halves;
  load(from, halves);
  const auto words = __builtin_convertvector(halves, typename Lanes<uint32_t, num_lanes>::type)
                     << 16;
  std::memcpy(&values, &words, sizeof(values));
}

template <int num_lanes>
DEEPLAB2_D2_INLINE void write(const Floats<num_lanes>& values, float* to) {
  store(values, to);
}

// To the nearest, of two the even one.
template <int num_lanes>
DEEPLAB2_D2_INLINE void write(const Floats<num_lanes>& values, uint16_t* to) {
  using Words = typename Lanes<uint32_t, num_lanes>::type;
  Words words;
  std::memcpy(&words, &values, sizeof(words));
  const Words rounded = (words + 0x7fff + ((words >> 16) & 1)) >> 16;
  const Words chosen = (words & 0x7fffffff) > 0x7f800000 ? Words{} + 0x7fc0 : rounded;
  store(__builtin_convertvector(chosen, typename Lanes<uint16_t, num_lanes>::type), to);
}

// num_pixels x num_vectors x num_lanes of the output.
template <typename T, int num_lanes, int num_pixels, int num_vectors>
DEEPLAB2_D2_INLINE void convolve_block(const DepthwiseRun& run, const T* features,
                                       const float* weight, const float* bias, T* output) {
  // Of two pointers half the pixels are read, which takes fewer registers than one would.
  constexpr int kHalf = (num_pixels + 1) / 2;
  Floats<num_lanes> sums[num_pixels][num_vectors], scales[num_vectors], values;
  for (int v = 0; v < num_vectors; ++v) {
    read<num_lanes>(bias + v * num_lanes, sums[0][v]);
    for (int pixel = 1; pixel < num_pixels; ++pixel) {
      sums[pixel][v] = sums[0][v];
    }
  }
  for (int64_t row = 0; row < run.num_rows; ++row) {
    const T* left = features + row * run.row_step;
    const T* right = left + kHalf * run.input_step;
    const float* scale = weight + row * run.weight_row_step;
    for (int64_t column = 0; column < run.num_columns; ++column) {
      for (int v = 0; v < num_vectors; ++v) {
        read<num_lanes>(scale + v * num_lanes, scales[v]);
      }
      for (int pixel = 0; pixel < num_pixels; ++pixel) {
        const T* from = pixel < kHalf ? left + pixel * run.input_step
                                      : right + (pixel - kHalf) * run.input_step;
        for (int v = 0; v < num_vectors; ++v) {
          read<num_lanes>(from + v * num_lanes, values);
          sums[pixel][v] = sums[pixel][v] + values * scales[v];
        }
      }
      left += run.column_step;
      right += run.column_step;
      scale += run.weight_column_step;
    }
  }
  activate(run.activation, num_pixels * num_vectors, &sums[0][0]);
#pragma GCC unroll 8
  for (int pixel = 0; pixel < num_pixels; ++pixel) {
#pragma GCC unroll 8
    for (int v = 0; v < num_vectors; ++v) {
      write<num_lanes>(sums[pixel][v], output + pixel * run.output_step + v * num_lanes);
    }
  }
}

// All channels of num_pixels.
template <typename T, int num_pixels>
DEEPLAB2_D2_INLINE void convolve_pixels(const DepthwiseRun& run, const T* features,
                                        const float* weight, const float* bias, T* output) {
  // What the next pixels read for the first time, which comes from memory; it may lie behind the
  // features, which is no harm.
  const T* ahead = features + (run.num_rows - 1) * run.row_step +
                   (run.num_columns - 1) * run.column_step + num_pixels * run.input_step;
  int64_t c = 0;
  for (; c + kVectors * kLanes <= run.channels; c += kVectors * kLanes) {
    for (int pixel = 0; pixel < num_pixels; ++pixel) {
      __builtin_prefetch(ahead + pixel * run.input_step + c);
    }
    convolve_block<T, kLanes, num_pixels, kVectors>(run, features + c, weight + c, bias + c,
                                                    output + c);
  }
  while (c < run.channels && run.channels >= kLanes) {
    // The last ones are computed twice rather than one by one.
    c = c + kLanes <= run.channels ? c : run.channels - kLanes;
    convolve_block<T, kLanes, num_pixels, 1>(run, features + c, weight + c, bias + c, output + c);
    c += kLanes;
  }
  for (; c < run.channels; ++c) {
    convolve_block<T, 1, num_pixels, 1>(run, features + c, weight + c, bias + c, output + c);
  }
}

template <typename T>
DEEPLAB2_D2_INLINE void convolve(const DepthwiseRun& given, const T* features, const float* weight,
                                 const float* bias, T* output) {
  // A copy, which no store to the output can change.
  const DepthwiseRun run = given;
  int64_t x = 0;
  while (x < run.num_pixels && run.num_pixels >= kPixels) {
    x = x + kPixels <= run.num_pixels ? x : run.num_pixels - kPixels;
    convolve_pixels<T, kPixels>(run, features + x * run.input_step, weight, bias,
                                output + x * run.output_step);
    x += kPixels;
  }
  for (; x < run.num_pixels; ++x) {
    convolve_pixels<T, 1>(run, features + x * run.input_step, weight, bias,
                          output + x * run.output_step);
  }
}

}  // namespace

DEEPLAB2_D2_CLONES void convolve_run(const DepthwiseRun& run, const float* features,
                                     const float* weight, const float* bias, float* output) {
  convolve(run, features, weight, bias, output);
}

DEEPLAB2_D2_CLONES void convolve_run(const DepthwiseRun& run, const uint16_t* features,
                                     const float* weight, const float* bias, uint16_t* output) {
  convolve(run, features, weight, bias, output);
}

}  // namespace deeplab2_d2
