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
};

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
  Softmax<scalar_t> result{sample(logits, frame.map_width, y, x, scalar_t(1)), scalar_t(0)};
  for (int32_t c = 1; c < frame.num_classes; ++c) {
    const scalar_t value = sample(logits + c * area, frame.map_width, y, x, scalar_t(1));
    result.largest = value > result.largest ? value : result.largest;
  }
  for (int32_t c = 0; c < frame.num_classes; ++c) {
    const scalar_t value = sample(logits + c * area, frame.map_width, y, x, scalar_t(1));
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
  if (is_counted(frame, label) && weight != 0) {
    const auto y =
        position_of(static_cast<int32_t>(pixel / frame.width), frame.scale_y, frame.map_height);
    const auto x =
        position_of(static_cast<int32_t>(pixel % frame.width), frame.scale_x, frame.map_width);
    const scalar_t* logits = all_logits + image * frame.num_classes * map_area;
    const Softmax<scalar_t> softmax = softmax_of_pixel(frame, logits, y, x);
    const scalar_t logit = sample(logits + label * map_area, frame.map_width, y, x, scalar_t(1));
    loss = (log(softmax.total) - (logit - softmax.largest)) * weight;
  }
  losses[index] = loss;
}

// factors: gradient x weight, 0 where the label is ignored; log_totals: log of the sum of
// exponentials of the logits, written where the factor is not 0.
template <typename scalar_t>
__global__ void factors_kernel(Frame<scalar_t> frame, const scalar_t* gradient,
                               const scalar_t* all_logits, Truth<scalar_t> truth, scalar_t* factors,
                               scalar_t* log_totals) {
  const int64_t area = static_cast<int64_t>(frame.height) * frame.width;
  const int64_t pixel = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (pixel >= area) {
    return;
  }
  const int64_t image = blockIdx.y, index = image * area + pixel;
  const int64_t map_area = static_cast<int64_t>(frame.map_height) * frame.map_width;
  const bool counts = is_counted(frame, truth.labels[index]);
  const scalar_t factor = counts ? gradient[index] * truth.weight(index) : scalar_t(0);
  factors[index] = factor;
  scalar_t log_total = 0;
  if (factor != 0) {
    const auto y =
        position_of(static_cast<int32_t>(pixel / frame.width), frame.scale_y, frame.map_height);
    const auto x =
        position_of(static_cast<int32_t>(pixel % frame.width), frame.scale_x, frame.map_width);
    const Softmax<scalar_t> softmax =
        softmax_of_pixel(frame, all_logits + image * frame.num_classes * map_area, y, x);
    log_total = softmax.largest + log(softmax.total);
  }
  log_totals[index] = log_total;
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

// What a source pixel weighs in the sample at a position.
template <typename scalar_t>
__device__ __forceinline__ scalar_t weight_of(int32_t source,
                                              const AxisPosition<scalar_t>& position) {
  return (position.lower == source ? scalar_t(1) - position.weight : scalar_t(0)) +
         (position.upper == source ? position.weight : scalar_t(0));
}

// The logits of one class around the map pixel (i, j); beyond the border those of the border.
template <typename scalar_t>
struct Neighborhood {
  scalar_t values[3][3];

  __device__ Neighborhood(const scalar_t* map, int32_t i, int32_t j, int32_t height,
                          int32_t width) {
#pragma unroll
    for (int32_t v = 0; v < 3; ++v) {
#pragma unroll
      for (int32_t u = 0; u < 3; ++u) {
        const int64_t row = min(max(i + v - 1, 0), height - 1);
        values[v][u] = map[row * width + min(max(j + u - 1, 0), width - 1)];
      }
    }
  }

  // Its three columns at a height that lies before (i - 1 .. i) or after (i .. i + 1) the pixel.
  __device__ void along_y(bool is_before, scalar_t weight, scalar_t* row) const {
#pragma unroll
    for (int32_t u = 0; u < 3; ++u) {
      row[u] = is_before ? lerp(values[0][u], values[1][u], weight)
                         : lerp(values[1][u], values[2][u], weight);
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
  const Neighborhood<scalar_t> logits(all_logits + plane * map_area, i, j, frame.map_height,
                                      frame.map_width);
  const int32_t first_y = first_output(i - 1, frame.height, frame.scale_y, frame.map_height);
  const int32_t first_x = first_output(j - 1, frame.width, frame.scale_x, frame.map_width);
  scalar_t sum = 0;
  for (int32_t y = first_y; y < frame.height; ++y) {
    const auto at_y = position_of(y, frame.scale_y, frame.map_height);
    if (at_y.lower > i) {
      break;
    }
    scalar_t row[3], sum_of_row = 0;
    logits.along_y(at_y.lower < i, at_y.weight, row);
    for (int32_t x = first_x; x < frame.width; ++x) {
      const auto at_x = position_of(x, frame.scale_x, frame.map_width);
      if (at_x.lower > j) {
        break;
      }
      const int64_t index = first_pixel + static_cast<int64_t>(y) * frame.width + x;
      const scalar_t factor = all_factors[index];
      if (factor != 0) {
        const scalar_t logit =
            at_x.lower < j ? lerp(row[0], row[1], at_x.weight) : lerp(row[1], row[2], at_x.weight);
        const scalar_t expected = all_labels[index] == label ? scalar_t(1) : scalar_t(0);
        sum_of_row += (exp(logit - all_log_totals[index]) - expected) * factor * weight_of(j, at_x);
      }
    }
    sum += sum_of_row * weight_of(i, at_y);
  }
  result[plane * map_area + map_pixel] = sum;
}

}  // namespace
}  // namespace deeplab2_d2
