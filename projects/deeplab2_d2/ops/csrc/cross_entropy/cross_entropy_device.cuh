// Kernels of the fused upsampling and cross-entropy; cross_entropy_cuda.cu says how the work is
// divided among them.
#pragma once

#include <c10/macros/Macros.h>
#include <math.h>

#include <cstdint>

#include "../resampling/resampling_device.cuh"

namespace deeplab2_d2 {
namespace {

// What all kernels need to know.
template <typename scalar_t>
struct Frame {
  int32_t num_classes, map_height, map_width, height, width;
  scalar_t scale_y, scale_x;
  int64_t ignore_label;

  __device__ AxisPosition<scalar_t> place_y(int32_t y) const {
    return place(y, scale_y, height, map_height);
  }
  __device__ AxisPosition<scalar_t> place_x(int32_t x) const {
    return place(x, scale_x, width, map_width);
  }

 private:
  // As in PyTorch, an axis that keeps its length has no pixel above.
  __device__ static AxisPosition<scalar_t> place(int32_t i, scalar_t scale, int32_t length,
                                                 int32_t map_length) {
    AxisPosition<scalar_t> position = position_of(i, scale, map_length);
    position.upper = length == map_length ? position.lower : position.upper;
    return position;
  }
};

// Unlike lerp() as PyTorch does it, so that what is not finite spreads as it does there.
template <typename scalar_t>
__device__ __forceinline__ scalar_t mix(scalar_t a, scalar_t b, scalar_t weight) {
  return a * (scalar_t(1) - weight) + b * weight;
}

template <typename scalar_t>
__device__ __forceinline__ scalar_t mix_at(const scalar_t* map, int32_t width,
                                           const AxisPosition<scalar_t>& y,
                                           const AxisPosition<scalar_t>& x) {
  const scalar_t* above = map + static_cast<int64_t>(y.lower) * width;
  const scalar_t* below = map + static_cast<int64_t>(y.upper) * width;
  return mix(mix(above[x.lower], below[x.lower], y.weight),
             mix(above[x.upper], below[x.upper], y.weight), x.weight);
}

// Labels and weights (or null) of all images.
template <typename scalar_t>
struct Truth {
  const int64_t* labels;
  const scalar_t* weights;

  __device__ scalar_t weight(int64_t index) const {
    return weights == nullptr ? scalar_t(1) : weights[index];
  }
};

// The softmax of one output pixel: its largest logit, and the sum of exponentials over it.
template <typename scalar_t>
struct Softmax {
  scalar_t largest, total;
};

template <typename scalar_t>
__device__ __forceinline__ Softmax<scalar_t> softmax_of_pixel(const Frame<scalar_t>& frame,
                                                              const scalar_t* logits,
                                                              const AxisPosition<scalar_t>& y,
                                                              const AxisPosition<scalar_t>& x) {
  const int64_t area = static_cast<int64_t>(frame.map_height) * frame.map_width;
  Softmax<scalar_t> result{mix_at(logits, frame.map_width, y, x), scalar_t(0)};
  for (int32_t c = 1; c < frame.num_classes; ++c) {
    const scalar_t value = mix_at(logits + c * area, frame.map_width, y, x);
    result.largest = value > result.largest ? value : result.largest;
  }
  for (int32_t c = 0; c < frame.num_classes; ++c) {
    const scalar_t value = mix_at(logits + c * area, frame.map_width, y, x);
    result.total += exp(value - result.largest);
  }
  return result;
}

// A label that is no class stops the program at the next wait, as in torch's own cross-entropy.
template <typename scalar_t>
__device__ __forceinline__ bool is_counted(const Frame<scalar_t>& frame, int64_t label) {
  if (label == frame.ignore_label) {
    return false;
  }
  CUDA_KERNEL_ASSERT(label >= 0 && label < frame.num_classes && "labels must be in [0, C)");
  return true;
}

template <typename scalar_t>
__global__ void loss_kernel(Frame<scalar_t> frame, const scalar_t* all_logits,
                            Truth<scalar_t> truth, scalar_t* losses) {
  const int64_t area = static_cast<int64_t>(frame.height) * frame.width;
  const int64_t pixel = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (pixel >= area) {
    return;
  }
  const int64_t image = blockIdx.y, index = image * area + pixel;
  const int64_t map_area = static_cast<int64_t>(frame.map_height) * frame.map_width;
  const int64_t label = truth.labels[index];
  const scalar_t weight = truth.weight(index);
  scalar_t loss = 0;
  if (is_counted(frame, label)) {
    const auto y = frame.place_y(static_cast<int32_t>(pixel / frame.width));
    const auto x = frame.place_x(static_cast<int32_t>(pixel % frame.width));
    const scalar_t* logits = all_logits + image * frame.num_classes * map_area;
    const Softmax<scalar_t> softmax = softmax_of_pixel(frame, logits, y, x);
    const scalar_t logit = mix_at(logits + label * map_area, frame.map_width, y, x);
    loss = log(softmax.total) - (logit - softmax.largest);
  }
  losses[index] = loss * weight;
}

// is_finite: (N, h, w), whether the logits of all classes are.
template <typename scalar_t>
__global__ void finite_kernel(Frame<scalar_t> frame, const scalar_t* all_logits, bool* is_finite) {
  const int64_t map_area = static_cast<int64_t>(frame.map_height) * frame.map_width;
  const int64_t pixel = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (pixel >= map_area) {
    return;
  }
  const scalar_t* logits = all_logits + blockIdx.y * frame.num_classes * map_area + pixel;
  bool all = true;
  for (int32_t c = 0; c < frame.num_classes; ++c) {
    const scalar_t value = logits[c * map_area];
    all = all && value - value == scalar_t(0);
  }
  is_finite[blockIdx.y * map_area + pixel] = all;
}

// Maps of all images that the gradient needs, (N, H, W). factors: gradient x weight, 0 where the
// label is ignored, NaN where the softmax is not a number; log_totals: log of the sum of
// exponentials of the logits, written where the factor is not 0.
template <typename scalar_t>
struct PixelFactors {
  scalar_t *factors, *log_totals;
};

template <typename scalar_t>
__global__ void factors_kernel(Frame<scalar_t> frame, const scalar_t* gradient,
                               const scalar_t* all_logits, const bool* all_finite,
                               Truth<scalar_t> truth, PixelFactors<scalar_t> result) {
  const int64_t area = static_cast<int64_t>(frame.height) * frame.width;
  const int64_t pixel = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (pixel >= area) {
    return;
  }
  const int64_t image = blockIdx.y, index = image * area + pixel;
  const int64_t map_area = static_cast<int64_t>(frame.map_height) * frame.map_width;
  const auto y = frame.place_y(static_cast<int32_t>(pixel / frame.width));
  const auto x = frame.place_x(static_cast<int32_t>(pixel % frame.width));
  const bool* above =
      all_finite + image * map_area + static_cast<int64_t>(y.lower) * frame.map_width;
  const bool* below =
      all_finite + image * map_area + static_cast<int64_t>(y.upper) * frame.map_width;
  const bool is_finite = above[x.lower] && above[x.upper] && below[x.lower] && below[x.upper];
  const bool counts = is_counted(frame, truth.labels[index]);
  scalar_t factor = counts ? gradient[index] * truth.weight(index) : scalar_t(0);
  scalar_t log_total = 0;
  // A factor of 0 times NaN is NaN.
  if (factor != 0 || !is_finite) {
    const Softmax<scalar_t> softmax =
        softmax_of_pixel(frame, all_logits + image * frame.num_classes * map_area, y, x);
    log_total = softmax.largest + log(softmax.total);
    factor = softmax.total == softmax.total ? factor : softmax.total;
  }
  result.factors[index] = factor;
  result.log_totals[index] = log_total;
}

// The first of `count` output coordinates whose lower source pixel is at least `source`; the
// coordinates are spread evenly, so that a guess is at most a step off.
template <typename scalar_t>
__device__ __forceinline__ int32_t first_output(int32_t source, int32_t count, scalar_t scale,
                                                int32_t source_length) {
  if (source <= 0) {
    return 0;
  }
  const scalar_t guess = scale > 0 ? static_cast<scalar_t>(source) / scale : scalar_t(count);
  int32_t first = guess < static_cast<scalar_t>(count) ? static_cast<int32_t>(guess) : count;
  while (first > 0 && position_of(first - 1, scale, source_length).lower >= source) {
    --first;
  }
  while (first < count && position_of(first, scale, source_length).lower < source) {
    ++first;
  }
  return first;
}

// What a source pixel gets of a value at a position.
template <typename scalar_t>
__device__ __forceinline__ scalar_t share_of(int32_t source, const AxisPosition<scalar_t>& position,
                                             scalar_t value) {
  return (position.lower == source ? value * (scalar_t(1) - position.weight) : scalar_t(0)) +
         (position.upper == source ? value * position.weight : scalar_t(0));
}

// The logits of one class around the map pixel (i, j); beyond the border, and where an axis keeps
// its length after the pixel, those of the nearest pixel that counts.
template <typename scalar_t>
struct Neighborhood {
  scalar_t values[3][3];

  __device__ Neighborhood(const Frame<scalar_t>& frame, const scalar_t* map, int32_t i, int32_t j) {
    const int32_t last_row = frame.height == frame.map_height ? i : frame.map_height - 1;
    const int32_t last_column = frame.width == frame.map_width ? j : frame.map_width - 1;
#pragma unroll
    for (int32_t v = 0; v < 3; ++v) {
#pragma unroll
      for (int32_t u = 0; u < 3; ++u) {
        const int64_t row = min(max(i + v - 1, 0), last_row);
        values[v][u] = map[row * frame.map_width + min(max(j + u - 1, 0), last_column)];
      }
    }
  }

  // Its three columns at a height that lies before (i - 1 .. i) or after (i .. i + 1) the pixel.
  __device__ void along_y(bool is_before, scalar_t weight, scalar_t* row) const {
#pragma unroll
    for (int32_t u = 0; u < 3; ++u) {
      row[u] = is_before ? mix(values[0][u], values[1][u], weight)
                         : mix(values[1][u], values[2][u], weight);
    }
  }
};

template <typename scalar_t>
__global__ void gradient_kernel(Frame<scalar_t> frame, const scalar_t* all_logits,
                                const int64_t* all_labels, const scalar_t* all_factors,
                                const scalar_t* all_log_totals, scalar_t* result) {
  const int64_t map_area = static_cast<int64_t>(frame.map_height) * frame.map_width;
  const int64_t map_pixel = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (map_pixel >= map_area) {
    return;
  }
  const int64_t plane = blockIdx.y, image = plane / frame.num_classes;
  const int32_t label = static_cast<int32_t>(plane % frame.num_classes);
  const int32_t i = static_cast<int32_t>(map_pixel / frame.map_width);
  const int32_t j = static_cast<int32_t>(map_pixel % frame.map_width);
  const int64_t first_pixel = image * frame.height * frame.width;
  const Neighborhood<scalar_t> logits(frame, all_logits + plane * map_area, i, j);
  const int32_t first_y = first_output(i - 1, frame.height, frame.scale_y, frame.map_height);
  const int32_t first_x = first_output(j - 1, frame.width, frame.scale_x, frame.map_width);
  scalar_t sum = 0;
  for (int32_t y = first_y; y < frame.height; ++y) {
    const auto at_y = frame.place_y(y);
    if (at_y.lower > i) {
      break;
    }
    scalar_t row[3], sum_of_row = 0;
    logits.along_y(at_y.lower < i, at_y.weight, row);
    for (int32_t x = first_x; x < frame.width; ++x) {
      const auto at_x = frame.place_x(x);
      if (at_x.lower > j) {
        break;
      }
      const int64_t index = first_pixel + static_cast<int64_t>(y) * frame.width + x;
      const scalar_t factor = all_factors[index];
      if (factor != 0) {
        const scalar_t logit =
            at_x.lower < j ? mix(row[0], row[1], at_x.weight) : mix(row[1], row[2], at_x.weight);
        const scalar_t expected = all_labels[index] == label ? factor : scalar_t(0);
        const scalar_t gradient = exp(logit - all_log_totals[index]) * factor - expected;
        sum_of_row += share_of(j, at_x, gradient);
      }
    }
    sum += share_of(i, at_y, sum_of_row);
  }
  result[plane * map_area + map_pixel] = sum;
}

}  // namespace
}  // namespace deeplab2_d2
